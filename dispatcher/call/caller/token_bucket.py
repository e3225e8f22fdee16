"""Rate limit of the messages and the audio of AVR Core."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class TokenBucket:
    """A token bucket: `used` drains at `rate` a second and may not exceed `burst`; below 0 it is saved."""

    rate: float
    burst: float
    seen_seconds: float
    used: float = 0.0

    def exceeded(self, amount: float, now_seconds: float) -> bool:
        """Use an amount; return whether that was too much."""
        elapsed = max(0.0, now_seconds - self.seen_seconds)
        if self.used > 0.0:
            self.used = max(0.0, self.used - elapsed * self.rate)
        self.used += amount
        self.seen_seconds = now_seconds
        return self.used > self.burst

    def take(self, amount: float, now_seconds: float) -> bool:
        """Use an amount if there is so much left; return False, and use nothing, if there is not."""
        if self.exceeded(amount, now_seconds):
            self.used -= amount
            return False
        return True

    def save(self, seconds: float) -> None:
        """Save the allowance of a stall, because the delayed messages may come at once now."""
        self.used = min(0.0, self.used) - seconds * self.rate

    def give_back(self, amount: float) -> None:
        """Undo a `take`."""
        self.used = max(0.0, self.used - amount)

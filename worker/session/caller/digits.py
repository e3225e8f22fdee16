"""Entries of keys: the model gets a whole number, and not each digit."""

from __future__ import annotations

# Longer than any card or account number. A caller who presses more keys gets several entries of this length.
MAX_DIGITS = 64
END_KEY = "#"


class DigitEntry:
    """Collector of the keys of one entry after the other. `#` ends an entry, or a time without a key."""

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._digits = ""
        self._pressed_seconds = 0.0

    @property
    def is_open(self) -> bool:
        """Whether an entry has begun and not ended."""
        return bool(self._digits)

    def press(self, digit: str, now_seconds: float) -> str | None:
        """Take a key; return the entry that the key completes. A `#` alone is an entry itself."""
        if digit == END_KEY:
            entry = self._digits or END_KEY
            self._digits = ""
            return entry
        self._digits += digit
        self._pressed_seconds = now_seconds
        return self._take() if len(self._digits) == MAX_DIGITS else None

    def tick(self, now_seconds: float) -> str | None:
        """Return the entry if it has ended, because no key followed in time."""
        if self._digits and now_seconds - self._pressed_seconds >= self._timeout_seconds:
            return self._take()
        return None

    def end(self) -> str | None:
        """End and return the open entry; None: no entry is open."""
        return self._take() if self._digits else None

    def _take(self) -> str:
        entry, self._digits = self._digits, ""
        return entry

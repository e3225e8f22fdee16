"""AVR Core's side of a call: rate limits of its messages, and limits of silence and of not reading."""

from __future__ import annotations

from typing import NamedTuple

from common.errors import AvrProtocolError
from dispatcher.avr.protocol import SAMPLE_RATE_HZ
from dispatcher.call.caller.line_quality import LineQuality
from dispatcher.call.caller.presence import CallerPresence
from dispatcher.call.caller.token_bucket import TokenBucket
from dispatcher.call.limits import CallLimits

TOO_MANY_MESSAGES = "messages come faster than any caller can speak"
# Minimum gap between messages that shows a stall of the network or of this process. Delayed messages follow at
# once.
GAP_SECONDS = 1.0


class Breach(NamedTuple):
    """Violation of the protocol by AVR Core.

    Attributes:
        reason: label under which it is counted.
        message: text for people.
    """

    reason: str
    message: str


class CallerSide:
    """The connection of one call to AVR Core, with its time and rate limits.

    Attributes:
        presence: whether the connection exists.
        line: quality of the caller's audio.
    """

    def __init__(self, limits: CallLimits, now_seconds: float, line: LineQuality) -> None:
        self.presence = CallerPresence()
        self.line = line
        self._limits = limits
        self._opened_seconds = now_seconds
        self._audio_seconds = self._message_seconds = now_seconds
        self._stuck_since_seconds: float | None = None
        self._audio_bucket = TokenBucket(limits.flood_ratio, limits.burst_seconds, now_seconds)
        self._message_bucket = TokenBucket(
            limits.messages_per_second, 10 * limits.messages_per_second, now_seconds
        )
        self._has_ignored = False

    def began(self, now_seconds: float) -> None:
        """Note that `init` has come: audio is expected from now on."""
        self._audio_seconds = now_seconds

    def arrived(self, messages: int, now_seconds: float) -> None:
        """Count messages.

        Raises:
            AvrProtocolError: there are too many.
        """
        gap_seconds, self._message_seconds = now_seconds - self._message_seconds, now_seconds
        if gap_seconds >= GAP_SECONDS:
            gap_seconds = min(gap_seconds, self._limits.silence_seconds)
            self._audio_bucket.save(gap_seconds)
            self._message_bucket.save(gap_seconds)
        if messages and self._message_bucket.exceeded(messages, now_seconds):
            raise AvrProtocolError("flood", TOO_MANY_MESSAGES, ends_call=True)

    def audio(self, pcm: bytes, now_seconds: float) -> None:
        """Count audio of the caller: PCM16 at 8 kHz.

        Raises:
            AvrProtocolError: there is too much.
        """
        if self._audio_bucket.exceeded(len(pcm) / 2 / SAMPLE_RATE_HZ, now_seconds):
            raise AvrProtocolError("flood", "audio comes much faster than real time", ends_call=True)
        if pcm:
            self._audio_seconds = now_seconds
            self.line.audio(pcm, now_seconds)

    def is_first_ignored(self) -> bool:
        """Return whether this is the first message of the call that is ignored."""
        is_first, self._has_ignored = not self._has_ignored, True
        return is_first

    def paused(self, now_seconds: float) -> None:
        """Note that AVR Core does not read."""
        self._stuck_since_seconds = now_seconds

    def reads(self) -> None:
        """Note that AVR Core reads again."""
        self._stuck_since_seconds = None

    def lost(self, reason: str, now_seconds: float, *, may_return: bool) -> None:
        """Note that the connection is lost."""
        self.presence.lost(reason, now_seconds, may_return=may_return)
        self._stuck_since_seconds = None

    def back(self, now_seconds: float) -> None:
        """Note that the caller has another connection, whose audio may come in a burst."""
        self.presence.back()
        self.line.restart()
        self._audio_seconds = now_seconds
        self._audio_bucket = TokenBucket(self._limits.flood_ratio, self._limits.burst_seconds, now_seconds)
        self._stuck_since_seconds = None

    def late_seconds(self, now_seconds: float) -> float:
        """Return by how much an absent caller is late; below 0 while the caller may still reconnect."""
        away_since_seconds = self.presence.away_since_seconds
        assert away_since_seconds is not None
        wait_seconds = self._limits.reconnect_seconds if self.presence.may_return else 0.0
        return now_seconds - away_since_seconds - wait_seconds

    @property
    def away_reason(self) -> str:
        """Return why a call ends whose caller did not reconnect."""
        if not self.presence.may_return:
            return self.presence.reason
        return f"{self.presence.reason}, and it did not come back within {self._limits.reconnect_seconds:g} s"

    def breach(self, now_seconds: float, *, awaits_init: bool) -> Breach | None:
        """Return the time limit that AVR Core has exceeded; None: none."""
        limits = self._limits
        if awaits_init:
            if now_seconds - self._opened_seconds >= limits.init_seconds:
                return Breach("no_init", f"no init within {limits.init_seconds:g} s")
        elif now_seconds - self._audio_seconds >= limits.silence_seconds:
            return Breach("no_audio", f"no audio from the caller for {limits.silence_seconds:g} s")
        elif (
            self._stuck_since_seconds is not None
            and now_seconds - self._stuck_since_seconds >= limits.stuck_seconds
        ):
            return Breach("not_reading", f"AVR Core has read nothing for {limits.stuck_seconds:g} s")
        return None

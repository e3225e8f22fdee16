"""The speech and keys of a simulated caller, cut into frames with due times. Without I/O and without a clock."""

from __future__ import annotations

from collections import deque

from simulator.avr import dtmf
from simulator.avr.playout import SAMPLE_BYTES, SAMPLE_RATE_HZ

DTMF_DIGITS = "0123456789*#ABCD"

# An hour of PCM16 at 8 kHz: longer than the speech of any call.
_MAX_QUEUED_BYTES = 3600 * SAMPLE_RATE_HZ * SAMPLE_BYTES

# Time between two keys of a person.
_SECONDS_BETWEEN_DIGITS = 0.2

# After a pause of the whole machine, AVR Core sends the accumulated frames; beyond this, lost time stays lost.
MAX_CATCH_UP_SECONDS = 1.0


class FrameSchedule:
    """The absolute times at which frames are due, so that a late frame does not delay later ones.

    Attributes:
        frame_seconds: length of the sound in a frame.
        latest_seconds: longest delay of any frame.
    """

    def __init__(self, started_at_seconds: float, frame_seconds: float) -> None:
        self.frame_seconds = frame_seconds
        self.latest_seconds = 0.0
        self._origin_seconds = started_at_seconds
        self._frames = 0

    @property
    def due_at_seconds(self) -> float:
        """Return the time at which the next frame is due."""
        return self._origin_seconds + self._frames * self.frame_seconds

    def sent(self, now_seconds: float) -> None:
        """Note that the due frame was sent.

        A frame later than `MAX_CATCH_UP_SECONDS` moves the schedule. So the burst that makes up for lost time is
        never longer than that.
        """
        late_seconds = now_seconds - self.due_at_seconds
        self.latest_seconds = max(self.latest_seconds, late_seconds)
        self._origin_seconds += max(0.0, late_seconds - MAX_CATCH_UP_SECONDS)
        self._frames += 1


class Microphone:
    """Speech and keys that wait to be sent, cut into frames.

    Args:
        frame_bytes: size of a frame; AVR Core's is 320 (20 ms).

    Attributes:
        silence: frame sent while the caller is silent.
        said_bytes: amount of speech taken so far.

    Raises:
        ValueError: a frame is not one or more whole samples.
    """

    def __init__(self, frame_bytes: int = 320) -> None:
        if frame_bytes < SAMPLE_BYTES or frame_bytes % SAMPLE_BYTES:
            raise ValueError(f"a frame of {frame_bytes} bytes is not whole 16-bit samples")
        self.silence = bytes(frame_bytes)
        self.frame_seconds = frame_bytes / (SAMPLE_RATE_HZ * SAMPLE_BYTES)
        self.said_bytes = 0
        self._speech = bytearray()
        self._digits: deque[tuple[int, str]] = deque()  # with the value of `said_bytes` that each key waits for
        self._frames_between_digits = max(1, round(_SECONDS_BETWEEN_DIGITS / self.frame_seconds))
        self._frames_to_next_digit = 0

    @property
    def has_speech(self) -> bool:
        """Tell whether speech is waiting."""
        return bool(self._speech)

    @property
    def has_digits(self) -> bool:
        """Tell whether keys are waiting."""
        return bool(self._digits)

    def say(self, pcm: bytes) -> int:
        """Queue speech after earlier speech, and return the value of `said_bytes` after it.

        Raises:
            ValueError: the speech is not whole samples, or more than an hour is waiting.
        """
        if len(pcm) % SAMPLE_BYTES:
            raise ValueError(f"{len(pcm)} bytes are not whole 16-bit samples")
        if len(self._speech) + len(pcm) > _MAX_QUEUED_BYTES:
            raise ValueError("more than an hour of speech is waiting to be said")
        self._speech += pcm
        return self.said_bytes + len(self._speech)

    def press(self, digits: str, *, after_bytes: int = 0) -> None:
        """Queue keys, to be pressed one by one once `said_bytes` has reached `after_bytes`.

        Raises:
            ValueError: a key does not exist on telephones.
        """
        for digit in digits:
            if digit not in DTMF_DIGITS:
                raise ValueError(f"{digit!r} is not a DTMF digit: use {DTMF_DIGITS}")
        self._digits.extend((after_bytes, digit) for digit in digits)

    def press_audibly(self, digits: str) -> int:
        """Queue keys and their tones after earlier speech, and return the value of `said_bytes` after them.

        The message of a key comes at the beginning of its tone.
        """
        for digit in digits:
            self.press(digit, after_bytes=self.said_bytes + len(self._speech))
            self._speech += dtmf.key(digit)
        return self.said_bytes + len(self._speech)

    def next_digit(self) -> str | None:
        """Return the key to press before the next frame, if one is due."""
        if self._frames_to_next_digit:
            self._frames_to_next_digit -= 1
            return None
        if not self._digits or self.said_bytes < self._digits[0][0]:
            return None
        self._frames_to_next_digit = self._frames_between_digits - 1
        return self._digits.popleft()[1]

    def next_frame(self) -> bytes:
        """Return the next frame of speech, padded at its end, or `silence` without speech."""
        if not self._speech:
            return self.silence
        size = len(self.silence)
        frame = bytes(self._speech[:size])
        del self._speech[:size]
        self.said_bytes += len(frame)
        return frame.ljust(size, b"\0")

"""Progress of a call on its way out: the recorded sentence, then the transfer to people, else the end."""

from __future__ import annotations

from common.observe.metrics import FallbackOutcome
from dispatcher.avr.protocol import FRAME_BYTES, SAMPLE_RATE_HZ
from dispatcher.call.actions import CallEnd

# Audio that is sent ahead of the playout clock; ticks of 200 ms refill it. A whole sentence of 20 s would take
# 400 KB of each socket's buffer.
LEAD_SECONDS = 2.0
# AVR Core buffers some audio, so the sentence ends this much later than by the playout clock.
CORE_BUFFER_SECONDS = 0.25
_BYTES_PER_SECOND = 2 * SAMPLE_RATE_HZ


class Parting:
    """Progress of one call on its way out.

    Attributes:
        why: why the call cannot continue; AVR Core gets the message in `error`.
        code: the close code with which the call ends unless it is transferred.
        since_seconds: time at which the call took the way out.
        outcome: outcome so far. It stays `HUNG_UP` if the caller hangs up before the end.
        is_transferring: avr-ami has been asked to transfer the call, and has not answered.
        is_hung_up: the calls API has requested a hang-up.
    """

    def __init__(self, sentence: bytes, why: CallEnd, code: int, now_seconds: float) -> None:
        self.why = why
        self.code = code
        self.since_seconds = now_seconds
        self.outcome = FallbackOutcome.HUNG_UP
        self.is_transferring = False
        self.is_hung_up = False
        self._sentence = sentence
        self._position = 0

    @property
    def is_said(self) -> bool:
        """Whether the whole sentence was handed to AVR Core."""
        return self._position >= len(self._sentence)

    def take(self, ahead_seconds: float) -> bytes:
        """Return the next whole frames of the sentence.

        Args:
            ahead_seconds: sent audio that the playout clock has not reached.
        """
        wanted = int((LEAD_SECONDS - ahead_seconds) * _BYTES_PER_SECOND)
        if wanted < FRAME_BYTES:
            return b""
        first = self._position
        self._position = min(len(self._sentence), first + wanted - wanted % FRAME_BYTES)
        return self._sentence[first : self._position]

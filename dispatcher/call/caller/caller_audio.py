"""The caller's audio on its way to the worker, with a copy in case the worker dies.

Audio is kept until the worker reports it as finished, because it has a transcript or is silence. At most 30 s are
kept: the newest 5 s as PCM, older audio as mu-law. A worker that takes the call over gets the whole copy.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from common.audio import g711
from dispatcher.avr.protocol import SAMPLE_RATE_HZ

SAMPLE_BYTES = 2
# An utterance of this length survives the worker that listens to it.
KEPT_SAMPLES = 30 * SAMPLE_RATE_HZ
# Audio is encoded in pieces of a second, at 30 us each. Silence is not encoded, because the worker reports each
# second of it as finished before it is five seconds old.
CODED_SAMPLES = SAMPLE_RATE_HZ
UNCODED_SAMPLES = 5 * SAMPLE_RATE_HZ
# Longest piece that is sent at once; a message of AVR Core may be longer than the worker's whole credit.
PIECE_BYTES = 8000
_SILENT_CODE = g711.encode_ulaw(bytes(SAMPLE_BYTES))


class CallerAudio:
    """Audio of one caller, PCM16 at 8 kHz. Positions are samples since the call began.

    Attributes:
        position_samples: the position of the audio that comes next.
        waiting_bytes: size of the audio that has not been sent to a worker.
    """

    def __init__(self, max_waiting_bytes: int) -> None:
        self.position_samples = 0
        self.waiting_bytes = 0
        self._max_waiting_bytes = max_waiting_bytes
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._sent: deque[tuple[int, bytes]] = deque()
        self._sent_samples = 0
        self._coded: deque[tuple[int, bytes]] = deque()
        self._coded_samples = 0
        self._finished_samples = 0

    @property
    def first_waiting_samples(self) -> int:
        """The position of the audio that is sent next."""
        return self._waiting[0][0] if self._waiting else self.position_samples

    def sent(self, pcm: bytes) -> int:
        """Keep audio that is sent at once, because no audio waits; return its position."""
        position = self.position_samples
        self.position_samples += len(pcm) // SAMPLE_BYTES
        self._keep(position, pcm)
        return position

    def wait(self, pcm: bytes) -> float:
        """Queue audio; return how many seconds were dropped from the front, because the queue was full."""
        for start in range(0, len(pcm), PIECE_BYTES):
            piece = pcm[start : start + PIECE_BYTES]
            self._waiting.append((self.position_samples, piece))
            self.position_samples += len(piece) // SAMPLE_BYTES
        self.waiting_bytes += len(pcm)
        dropped_bytes = 0
        while self.waiting_bytes > self._max_waiting_bytes:
            size = len(self._waiting.popleft()[1])
            self.waiting_bytes -= size
            dropped_bytes += size
        return dropped_bytes / SAMPLE_BYTES / SAMPLE_RATE_HZ

    def take(self, credit_bytes: int) -> Iterator[tuple[int, bytes]]:
        """Yield queued audio that may be sent now: (position, pcm)."""
        while self._waiting and len(self._waiting[0][1]) <= credit_bytes:
            position, pcm = self._waiting.popleft()
            self.waiting_bytes -= len(pcm)
            credit_bytes -= len(pcm)
            self._keep(position, pcm)
            yield position, pcm

    def finished(self, position_samples: int) -> None:
        """Drop the copy of audio before this position."""
        self._finished_samples = max(self._finished_samples, position_samples)
        while self._coded and _end_of_codes(self._coded[0]) <= self._finished_samples:
            self._coded_samples -= len(self._coded.popleft()[1])
        if not self._coded:
            while self._sent and _end(self._sent[0]) <= self._finished_samples:
                self._sent_samples -= len(self._sent.popleft()[1]) // SAMPLE_BYTES

    def kept(self) -> list[tuple[int, bytes]]:
        """Return all audio for a worker that takes over: (position, mu-law). The queue is empty afterwards."""
        while self._waiting:
            position, pcm = self._waiting.popleft()
            self._keep(position, pcm)
        self.waiting_bytes = 0
        while self._sent:
            self._code()
        first = self._finished_samples
        return [(max(position, first), codes[max(0, first - position) :]) for position, codes in self._coded]

    def rebase(self, position_samples: int) -> None:
        """Move queued audio, so that it begins at this position. No audio was sent before."""
        shift = position_samples - self.first_waiting_samples
        self._waiting = deque((position + shift, pcm) for position, pcm in self._waiting)
        self.position_samples += shift
        self._finished_samples = position_samples

    def keep(self, position: int, codes: bytes) -> None:
        """Keep mu-law from before this dispatcher had the call, which no session has heard."""
        self._finished_samples = min(self._finished_samples, position)
        self._coded.append((position, codes))
        self._coded_samples += len(codes)
        while self._coded_samples > KEPT_SAMPLES:
            self._coded_samples -= len(self._coded.popleft()[1])

    def silence(self) -> None:
        """Replace all audio that is held by silence, because the caller may have pressed secret keys in it."""
        self._waiting = deque((position, bytes(len(pcm))) for position, pcm in self._waiting)
        self._sent = deque((position, bytes(len(pcm))) for position, pcm in self._sent)
        self._coded = deque((position, _SILENT_CODE * len(codes)) for position, codes in self._coded)

    def clear(self) -> None:
        """Drop all audio: the call has ended."""
        self._waiting.clear()
        self._sent.clear()
        self._coded.clear()
        self.waiting_bytes = 0

    def _keep(self, position: int, pcm: bytes) -> None:
        self._sent.append((position, pcm))
        self._sent_samples += len(pcm) // SAMPLE_BYTES
        if self._sent_samples > UNCODED_SAMPLES:
            self._code()

    def _code(self) -> None:
        """Encode the oldest second as mu-law."""
        position, piece = self._sent.popleft()
        pieces, samples = [piece], len(piece) // SAMPLE_BYTES
        while self._sent and samples < CODED_SAMPLES and self._sent[0][0] == position + samples:
            piece = self._sent.popleft()[1]
            pieces.append(piece)
            samples += len(piece) // SAMPLE_BYTES
        self._sent_samples -= samples
        self._coded.append((position, g711.encode_ulaw(b"".join(pieces))))
        self._coded_samples += samples
        while self._coded_samples > KEPT_SAMPLES:
            self._coded_samples -= len(self._coded.popleft()[1])


def _end(piece: tuple[int, bytes]) -> int:
    return piece[0] + len(piece[1]) // SAMPLE_BYTES


def _end_of_codes(piece: tuple[int, bytes]) -> int:
    return piece[0] + len(piece[1])

"""The caller's audio on its way to the model.

Audio is buffered while there is no session, or while the connection is slow. Audio is dropped while a welcome
message must not be interrupted. If the worker detects turns itself, only speech is sent to the API.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import pybase64

from worker.audio.audio_format import Uplink
from worker.audio.local_vad import LocalVad, SpeechStarted, SpeechStopped
from worker.audio.resample import LOW_RATE_HZ, SAMPLE_BYTES, Upsampler
from worker.session.actions import AppendAudio
from worker.session.caller.turns import CallerTurns

# Maximum audio that is buffered for a session or a slow connection.
MAX_WAITING_BYTES = 30 * LOW_RATE_HZ * SAMPLE_BYTES
# Buffered audio is sent in pieces that are far below the API's limit of 15 MiB for one append.
APPEND_STEP_BYTES = LOW_RATE_HZ * SAMPLE_BYTES


@dataclass(frozen=True, slots=True)
class Dropped:
    """Audio was dropped, because the buffer was full."""

    seconds: float


Step: TypeAlias = AppendAudio | Dropped | SpeechStarted | SpeechStopped


class CallerAudio:
    """Audio of one call from the caller to the model. Methods return the steps to carry out, in order.

    Attributes:
        turns: positions of the caller's turns in the call.
        input_muted: new audio is dropped.
        waiting_bytes: size of the audio that is buffered for a session or a slow connection.
    """

    def __init__(self, uplink: Uplink, vad: LocalVad | None, prefix_ms: int) -> None:
        """Build it.

        Args:
            uplink: encoder for the session's format.
            vad: detector of turns; None: the API detects turns.
            prefix_ms: length of the audio before its first sound that belongs to a turn, with `vad`.
        """
        self.turns = CallerTurns()
        self.input_muted = False
        self._uplink = uplink
        self._vad = vad
        self._prefix_bytes = prefix_ms * LOW_RATE_HZ * SAMPLE_BYTES // 1000
        self._speaking = False
        self._open = False
        self._paused = False
        self._waiting: deque[tuple[int, bytes]] = deque()  # (position in the call, audio)
        self.waiting_bytes = 0

    @property
    def upsampler(self) -> Upsampler | None:
        """Resampler of the next audio, if that audio is sent to the API at once; None: it is buffered."""
        at_once = self._open and not (self._paused or self._waiting or self.input_muted) and self._vad is None
        return self._uplink.upsampler if at_once else None

    def find_turns(self, vad: LocalVad | None) -> list[Step]:
        """Let this detector find turns from now on; None: the API does, and gets all buffered audio."""
        self._vad = vad
        self._speaking = False
        return [] if self.input_muted else self._flush()

    @property
    def waiting(self) -> list[tuple[int, bytes]]:
        """The buffered audio: (position, PCM16 at 8 kHz)."""
        return list(self._waiting)

    def open(self, kept: Sequence[tuple[int, bytes]] = ()) -> list[Step]:
        """Send buffered audio, because the session is ready.

        Args:
            kept: audio from before the buffered audio, (position, PCM16 at 8 kHz), which another session heard.
        """
        self._open = True
        if self.input_muted:
            return []
        if not kept:
            return self._flush()
        pieces = [*kept, *self._waiting]
        if self._vad is not None:
            self._waiting.clear()
            self.waiting_bytes = 0
            return [step for position, pcm in pieces for step in self._find_turns(self._vad, position, pcm)]
        self._waiting = deque(pieces)
        self.waiting_bytes = sum(len(pcm) for _, pcm in pieces)
        return self._flush()

    def close(self) -> None:
        """Buffer audio for the next session, because the connection of this session is closed."""
        self._open = False
        self._paused = False

    def forget(self) -> None:
        """Drop buffered audio, because the session has ended."""
        self._waiting.clear()
        self.waiting_bytes = 0

    def paused(self) -> None:
        """Buffer audio, because the API does not read."""
        self._paused = True

    def writable(self) -> list[Step]:
        """Send buffered audio, because the API reads again."""
        self._paused = False
        return self._flush()

    def audio(self, position_samples: int, pcm: bytes) -> list[Step]:
        """Take the caller's audio from this position of the call."""
        if self.input_muted:
            return []
        if self._vad is None:
            if self._open and not self._paused and not self._waiting:
                return self._append(position_samples, pcm)
            return self._wait(position_samples, pcm) + self._flush()
        return self._find_turns(self._vad, position_samples, pcm)

    def _find_turns(self, vad: LocalVad, position_samples: int, pcm: bytes) -> list[Step]:
        """Find turns. Between turns, buffer only the audio that belongs to the beginning of the next turn."""
        if not self._open:
            return self._wait(position_samples, pcm)
        steps = self._wait(position_samples, pcm)
        for event in vad.feed(pcm):
            self._speaking = isinstance(event, SpeechStarted)
            if not self._speaking:
                steps += self._flush()
            steps.append(event)
        if self._speaking:
            return steps + self._flush()
        while self._waiting and self.waiting_bytes - len(self._waiting[0][1]) >= self._prefix_bytes:
            self.waiting_bytes -= len(self._waiting.popleft()[1])
        return steps

    def _wait(self, position_samples: int, pcm: bytes) -> list[Step]:
        self._waiting.append((position_samples, pcm))
        self.waiting_bytes += len(pcm)
        dropped = 0
        while self.waiting_bytes > MAX_WAITING_BYTES:
            oldest = len(self._waiting.popleft()[1])
            self.waiting_bytes -= oldest
            dropped += oldest
        return [Dropped(dropped / SAMPLE_BYTES / LOW_RATE_HZ)] if dropped else []

    def _flush(self) -> list[Step]:
        steps: list[Step] = []
        while self._waiting and self._open and not self._paused:
            position, piece = self._waiting.popleft()
            while self._waiting and len(piece) < APPEND_STEP_BYTES:
                if self._waiting[0][0] != position + len(piece) // SAMPLE_BYTES:
                    break
                piece += self._waiting.popleft()[1]
            self.waiting_bytes -= len(piece)
            steps += self._append(position, piece)
        return steps

    def _append(self, position_samples: int, pcm: bytes) -> list[Step]:
        if not pcm:
            return []
        self.turns.appended(position_samples, len(pcm) // SAMPLE_BYTES)
        return [AppendAudio(pybase64.b64encode(self._uplink.encode(pcm)))]

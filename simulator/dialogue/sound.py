"""The sound of a dialogue's lines: read or spoken, trimmed, and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from common.audio import wav
from common.audio.wav import WavError, read_wav
from simulator.dialogue.errors import FileErrors
from simulator.dialogue.steps import SpokenStep
from simulator.espeak import speak
from simulator.realtime.script import Line
from simulator.realtime.vad import SAMPLE_RATE_HZ, EnergyVad, SpeechStarted, threshold_dbfs

TURN_ENDS_SECONDS: Final = 0.5
"""Silence that ends a turn of the caller, with OpenAI's defaults."""

_WINDOW: Final = 160
"""20 ms."""
_MARGIN_WINDOWS: Final = 3
_LOUD: Final = 10 ** (threshold_dbfs(0.5) / 20)


class LineReader:
    """Makes lines of steps.

    Args:
        errors: makes the errors of the file.
        folder: folder that names of WAV files begin at.
        voices: voices of espeak-ng, by side.
    """

    def __init__(self, errors: FileErrors, folder: Path, voices: dict[str, str]) -> None:
        self._errors = errors
        self._folder = folder
        self._voices = voices

    async def read(self, step: SpokenStep) -> Line:
        """Return the line, without the silence around it.

        Raises:
            DialogueError: there is no sound, or a caller's line would not be one turn.
        """
        side = "agent" if step.who == "agent" else "caller"
        try:
            if step.wav is None:
                pcm = await speak(step.text, self._voices[side], what="a line without 'wav'", instead="'wav'")
            else:
                pcm = read_wav(self._folder / step.wav)
        except WavError as error:
            raise self._errors.at(step.line, str(error)) from None
        sound = trimmed(pcm)
        if not sound:
            raise self._errors.at(step.line, "nothing can be heard in it: record it louder than -45 dBFS")
        turns = 1 if side == "agent" else _turns(sound)
        if turns > 1:
            raise self._errors.at(
                step.line,
                f"a pause of {TURN_ENDS_SECONDS:g} s or more makes {turns} turns of it: shorten the pause, or "
                "write a step of the caller for each",
            )
        if not turns:
            raise self._errors.at(step.line, "it is too short or too quiet for speech: record it again")
        return Line(step.text, sound)


def trimmed(pcm: bytes) -> bytes:
    """Return speech (PCM16, 8 kHz) without the silence around it but 60 ms; empty if nothing is loud."""
    samples = np.frombuffer(pcm, "<i2") / 32768.0
    count = len(samples) // _WINDOW
    levels = np.sqrt(np.mean(samples[: count * _WINDOW].reshape(count, _WINDOW) ** 2, axis=1))
    loud = np.flatnonzero(levels >= _LOUD)
    if not loud.size:
        return b""
    first = max(0, int(loud[0]) - _MARGIN_WINDOWS)
    end = int(loud[-1]) + 1 + _MARGIN_WINDOWS
    return pcm[first * _WINDOW * wav.SAMPLE_BYTES : end * _WINDOW * wav.SAMPLE_BYTES]


def _turns(pcm: bytes) -> int:
    """Count the turns that the API's turn detection makes of speech."""
    vad = EnergyVad(silence_ms=round(1000 * TURN_ENDS_SECONDS))
    samples = wav.resample(np.frombuffer(pcm, "<i2") / 32768.0, wav.SAMPLE_RATE_HZ, SAMPLE_RATE_HZ)
    events = vad.feed(np.frombuffer(wav.to_pcm16(samples), "<i2"))
    return sum(isinstance(event, SpeechStarted) for event in events)

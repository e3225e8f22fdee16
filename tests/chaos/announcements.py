"""Recordings that the service plays, in words that the model never uses, so that ears can recognize them."""

from __future__ import annotations

import wave
from pathlib import Path

from simulator.realtime.voice import WordVoice

WORD_MS = 400
_FRAME_BYTES = 320

FALLBACK_WORDS = ("apology", "again", "goodbye")
"""The recorded sentence of the way out (FALLBACK_WAV)."""

FILLER_WORD = "filler"
"""The pattern that is played while the caller waits for an answer (FILLER_WAV)."""

WORDS = (*FALLBACK_WORDS, FILLER_WORD)


def write(directory: Path) -> tuple[Path, Path]:
    """Write both recordings, and return the paths of the fallback and of the filler."""
    return _write(directory / "fallback.wav", FALLBACK_WORDS), _write(directory / "filler.wav", (FILLER_WORD,))


def pcm(words: tuple[str, ...]) -> bytes:
    """Return PCM16 at 8 kHz. The voice has nothing above 3400 Hz that could fold down."""
    pcm24k = WordVoice(list(words), WORD_MS).pcm(0, len(words) * WORD_MS)
    samples = memoryview(pcm24k).cast("h")[::3]
    return samples.tobytes()


def frames(words: tuple[str, ...]) -> frozenset[bytes]:
    """Return the frames of 20 ms in which the recording of these words is sent."""
    recording = pcm(words)
    return frozenset(recording[start : start + _FRAME_BYTES] for start in range(0, len(recording), _FRAME_BYTES))


def _write(path: Path, words: tuple[str, ...]) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(pcm(words))
    return path

"""The speech of callers, and the simulator's word count of it, which depends on the length of each turn."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.audio.wav import read_wav
from simulator.avr.playout import SAMPLE_BYTES, SAMPLE_RATE_HZ
from simulator.realtime.input_audio import InputAudio
from simulator.realtime.vad import SpeechStopped
from simulator.realtime.voice import WordVoice

WORD_MS = 400
_RECORDED = Path(__file__).resolve().parents[2] / "simulator" / "speech" / "caller.wav"
_WORDS = ("good", "day", "tell", "me", "when", "you", "open", "please", "and", "where", "that", "is")
_FRAME_SAMPLES = 480


@dataclass(frozen=True, slots=True)
class Speech:
    """Speech as PCM16 at 8 kHz, with the number of words that the simulator hears in each turn."""

    pcm: bytes
    turns: tuple[int, ...]

    @property
    def seconds(self) -> float:
        """Return the length of the speech."""
        return len(self.pcm) / SAMPLE_BYTES / SAMPLE_RATE_HZ


@functools.cache
def spoken(words: int) -> Speech:
    """Return this many words in one turn, in the simulator's own voice."""
    said = [_WORDS[number % len(_WORDS)] for number in range(words)]
    pcm24k = np.frombuffer(WordVoice(said, WORD_MS).pcm(0, words * WORD_MS), "<i2")
    return _heard(pcm24k[::3].tobytes())


@functools.cache
def recorded() -> Speech:
    """Return recorded speech, with natural pauses."""
    return _heard(read_wav(_RECORDED))


def _heard(pcm: bytes) -> Speech:
    """Count the words as a session of the simulator does, by its default settings."""
    ear = InputAudio()
    ear.configure(threshold=0.5, silence_ms=500, prefix_ms=300, trims_silence=True)
    samples = np.frombuffer(pcm + bytes(SAMPLE_RATE_HZ * SAMPLE_BYTES), "<i2").repeat(3)
    frames = (samples[start : start + _FRAME_SAMPLES] for start in range(0, len(samples), _FRAME_SAMPLES))
    turns = (
        ear.take_speech(event).speech_ms
        for frame in frames
        for event in ear.append(frame.tobytes())
        if isinstance(event, SpeechStopped)
    )
    return Speech(pcm, tuple(-(-speech_ms // WORD_MS) for speech_ms in turns))

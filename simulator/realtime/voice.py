"""The words and the sound of the simulated model: words of a fixed length, or a tone.

A word of the transcript is exactly `word_ms` of audio. So the heard part of a reply (ms) can be compared with the
heard part that the model was told (words).
"""

from __future__ import annotations

import functools
import itertools
import zlib
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

SAMPLE_RATE_HZ = 24_000
SAMPLES_PER_MS = SAMPLE_RATE_HZ // 1000

# A full-scale sine is 0 dBFS.
TONE_AMPLITUDE = 32767 * 10 ** (-10 / 20)

# Speech on the telephone is at about this level.
_WORD_RMS = 32767 * 10 ** (-20 / 20)
_WORD_PEAK = 32767 * 10 ** (-3 / 20)

# The part of a word that sounds: the gap separates words. It begins and ends softly, without clicks.
_SOUNDING = 0.8
_ATTACK_MS = 30
_RELEASE_MS = 60

# First two formants of five vowels (Peterson and Barney 1952, men), their width, and the telephone band's end.
_FORMANTS_HZ = ((270, 2290), (530, 1840), (730, 1090), (570, 840), (300, 870))
_FORMANT_WIDTH_HZ = 120.0
_HIGHEST_HZ = 3400.0

_LETTERS = (
    "alpha bravo charlie delta echo foxtrot golf hotel india juliett kilo lima mike november oscar papa quebec "
    "romeo sierra tango uniform victor whiskey xray yankee zulu"
)
_NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty"
)
_LETTER_WORDS = _LETTERS.split()
_NUMBER_WORDS = _NUMBERS.split()

# The telephone band, in which a caller's tone is searched.
_LOWEST_ECHO_HZ = 300.0
_HIGHEST_ECHO_HZ = 3400.0
_MIN_MEASURED_SAMPLES = SAMPLE_RATE_HZ // 20
_MAX_MEASURED_SAMPLES = SAMPLE_RATE_HZ * 2


class Sound(Protocol):
    """The sound of one reply."""

    def pcm(self, start_ms: int, end_ms: int) -> bytes:
        """Return the audio between two times: PCM16 mono at 24 kHz, exactly that long."""


class WordVoice:
    """A speech-like burst for each word: harmonics of a falling pitch, shaped like a vowel."""

    def __init__(self, words: Sequence[str], word_ms: int) -> None:
        self._words = words
        self._word_ms = word_ms

    def pcm(self, start_ms: int, end_ms: int) -> bytes:
        """Return audio: see `Sound.pcm`."""
        parts = []
        position = start_ms
        while position < end_ms:
            index, offset = divmod(position, self._word_ms)
            length = min(end_ms - position, self._word_ms - offset)
            word = _word_samples(self._words[index], self._word_ms)
            parts.append(word[offset * SAMPLES_PER_MS : (offset + length) * SAMPLES_PER_MS])
            position += length
        return np.concatenate(parts).tobytes()


class ToneVoice:
    """A sine at -10 dBFS that goes through the whole reply without a jump in phase."""

    def __init__(self, hz: float) -> None:
        self.hz = hz

    def pcm(self, start_ms: int, end_ms: int) -> bytes:
        """Return audio: see `Sound.pcm`."""
        samples = np.arange(start_ms * SAMPLES_PER_MS, end_ms * SAMPLES_PER_MS, dtype=np.float64)
        wave = TONE_AMPLITUDE * np.sin(2 * np.pi * self.hz / SAMPLE_RATE_HZ * samples)
        return np.rint(wave).astype("<i2").tobytes()


def number_word(number: int) -> str:
    """Return a number as one word: spelled up to twenty, then in digits."""
    return _NUMBER_WORDS[number] if number < len(_NUMBER_WORDS) else str(number)


def reply_words(*, number: int, turn: int, count: int, greets: bool) -> list[str]:
    """Return the words of the model's reply `number` (from 1) to user message `turn` (from 1; 0: the greeting).

    The words are `greeting one alpha bravo ...` or `reply two turn one alpha bravo ...`: `count` words. All
    letters differ, so that any part of a reply identifies its place.
    """
    head = (
        ["greeting", number_word(number)] if greets else ["reply", number_word(number), "turn", number_word(turn)]
    )
    return list(itertools.islice(itertools.chain(head, _letters()), count))


def heard_words(speech_ms: int, word_ms: int) -> str:
    """Return the simulated transcript of speech, which depends on its length alone.

    It has one word for each started `word_ms`: `heard one two three`; without speech, `heard nothing`.
    """
    count = -(-speech_ms // word_ms)
    return " ".join(["heard", *(number_word(each) for each in range(1, count + 1))]) if count else "heard nothing"


def dominant_hz(pcm: bytes) -> float | None:
    """Return the strongest frequency from 300 to 3400 Hz in PCM16 at 24 kHz; None in short or quiet audio.

    It is the peak of a Hann-windowed spectrum, interpolated by a parabola through its logarithms (Gasior and
    Gonzalez, CERN-AB-2004-021). For a clean tone of half a second, it is accurate to 0.1 Hz.
    """
    samples = np.frombuffer(pcm, dtype="<i2")
    if samples.size > _MAX_MEASURED_SAMPLES:
        middle = samples.size // 2
        samples = samples[middle - _MAX_MEASURED_SAMPLES // 2 : middle + _MAX_MEASURED_SAMPLES // 2]
    if samples.size < _MIN_MEASURED_SAMPLES:
        return None
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size)))
    bin_hz = SAMPLE_RATE_HZ / samples.size
    low = int(np.ceil(_LOWEST_ECHO_HZ / bin_hz))
    high = int(_HIGHEST_ECHO_HZ / bin_hz) + 1
    peak = low + int(np.argmax(spectrum[low:high]))
    if spectrum[peak] <= 0:
        return None
    left, middle_log, right = np.log(spectrum[peak - 1 : peak + 2] + 1e-9)
    curvature = left - 2 * middle_log + right
    shift = 0.5 * (left - right) / curvature if curvature else 0.0
    return float((peak + shift) * bin_hz)


def _letters() -> Iterator[str]:
    """Yield `alpha` to `zulu`, then `alpha1` to `zulu1`, and so on."""
    for each in itertools.count():
        for letter in _LETTER_WORDS:
            yield f"{letter}{each}" if each else letter


@functools.lru_cache(maxsize=256)
def _word_samples(word: str, word_ms: int) -> npt.NDArray[np.int16]:
    digest = zlib.crc32(word.encode())
    pitch_hz = 105.0 * 2 ** ((digest % 12) / 12)
    formants_hz = _FORMANTS_HZ[digest // 12 % len(_FORMANTS_HZ)]
    count = word_ms * SAMPLES_PER_MS
    sounding = int(count * _SOUNDING)
    # The pitch falls by a fifth of an octave, as at the end of a phrase.
    pitch = pitch_hz * 2 ** (-0.2 * np.arange(sounding) / max(1, sounding))
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE_HZ
    wave = np.zeros(sounding)
    harmonics = int(_HIGHEST_HZ / pitch_hz)
    for harmonic in range(1, harmonics + 1):
        distances = ((harmonic * pitch_hz - each) / _FORMANT_WIDTH_HZ for each in formants_hz)
        gain = (0.1 + sum(1 / (1 + each**2) for each in distances)) / harmonic**0.5
        # Phases after Schroeder (1970) spread the energy over the period.
        wave += gain * np.sin(harmonic * phase - np.pi * harmonic**2 / harmonics)
    wave *= _envelope(sounding)
    wave *= _WORD_RMS / max(1e-9, float(np.sqrt(np.mean(wave**2))))
    wave *= min(1.0, _WORD_PEAK / max(1e-9, float(np.max(np.abs(wave)))))
    samples = np.zeros(count, dtype="<i2")
    samples[:sounding] = np.rint(wave)
    samples.flags.writeable = False
    return samples


def _envelope(count: int) -> npt.NDArray[np.float64]:
    envelope = np.ones(count)
    attack = min(count // 2, _ATTACK_MS * SAMPLES_PER_MS)
    release = min(count // 2, _RELEASE_MS * SAMPLES_PER_MS)
    envelope[:attack] = 0.5 - 0.5 * np.cos(np.pi * np.arange(attack) / max(1, attack))
    envelope[count - release :] = 0.5 + 0.5 * np.cos(np.pi * np.arange(1, release + 1) / max(1, release))
    return envelope

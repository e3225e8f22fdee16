"""The words that a caller heard, recognized by the sound of the simulated model's words.

The model speaks each word as a burst of 320 ms and is silent for 80 ms, and a word always sounds the same. So the
played audio is cut at its silences, and each burst is compared with every word that the model may have said.
Some words sound alike; `Ear.same` knows them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.avr.playout import SAMPLE_RATE_HZ, PlayoutBuffer, SegmentEnd
from simulator.realtime.voice import WordVoice

UNKNOWN = "?"
"""A sound that is no word, or too short to recognize."""

# Silence is below this amplitude (-60 dBFS). After this length, a word has ended (a period is at most 76).
_SILENCE_LEVEL = 32
_SILENCE_SAMPLES = 240

# Shorter sounds are ignored: the resampler's ringing, or the first swell of a truncated word.
_SHORTEST_SAMPLES = 240
# A word truncated later than this can be recognized by its beginning.
_TELLING_SAMPLES = 480
# Minimum part of a whole word above silence, because the word swells and fades.
_WHOLE_SHARE = 0.9
# Correlation of a sound with its own word; with another word it is below 0.9.
_ALIKE = 0.95
_FFT_SAMPLES = 4096
# Maximum time between the start of a word and the start of its burst.
_LAG_SAMPLES = 160

Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class HeardWord:
    """A word that was played to the caller.

    Attributes:
        at_seconds: time since the call began.
        word: the word, or `UNKNOWN`.
        share: played share of the word, 0 to 1.
    """

    at_seconds: float
    word: str
    share: float

    @property
    def fully_heard(self) -> bool:
        """Tell whether the word was heard to its end."""
        return self.share >= _WHOLE_SHARE


@dataclass(frozen=True, slots=True)
class Stretch:
    """Audio that was played without a dropped part.

    Attributes:
        at_seconds: time since the call began.
        pcm: the audio, without the silence of an empty buffer.
        pauses: sample (from 0) before each such silence, and the end of the silence.
    """

    at_seconds: float
    pcm: bytes
    pauses: tuple[tuple[int, float], ...] = ()

    def time_of(self, sample: int) -> float:
        """Return the time at which a sample was played, in seconds since the call began."""
        first, at_seconds = 0, self.at_seconds
        for after_sample, over_seconds in self.pauses:
            if after_sample > sample:
                break
            first, at_seconds = after_sample, over_seconds
        return at_seconds + (sample - first) / SAMPLE_RATE_HZ


class Ear:
    """A recognizer of a voice's words.

    Args:
        vocabulary: words that may be heard.
        word_ms: length of a word with its silence.
    """

    def __init__(self, vocabulary: Iterable[str], word_ms: int = 400) -> None:
        self._sound_of: dict[str, str] = {}
        by_sound: dict[bytes, str] = {}
        templates: list[Samples] = []
        self._words: list[str] = []
        for word in sorted(set(vocabulary)):
            sound = _sound(word, word_ms)
            first = by_sound.setdefault(sound.tobytes(), word)
            self._sound_of[word] = first
            if first == word:
                self._words.append(word)
                templates.append(sound)
        self._sounding = max((len(each) for each in templates), default=0)
        self._templates = np.zeros((len(templates), self._sounding), dtype=np.float32)
        for row, sound in zip(self._templates, templates, strict=True):
            row[: len(sound)] = sound
        # Energy of the first n samples of each word.
        self._energies = np.cumsum(self._templates.astype(np.float64) ** 2, axis=1)
        self._spectra = np.conj(np.fft.rfft(self._templates, _FFT_SAMPLES, axis=1))

    def same(self, one: str, other: str) -> bool:
        """Tell whether two words sound alike."""
        return one == other or self._sound_of.get(one, one) == self._sound_of.get(other, other)

    def listen(self, stretches: Iterable[Stretch]) -> list[HeardWord]:
        """Return the words of the played audio, in order."""
        words = []
        for stretch in stretches:
            samples = np.frombuffer(stretch.pcm, "<i2").astype(np.float32)
            for first, end in _bursts(samples):
                words += self._tell(samples[first:end], first, stretch)
        return words

    def _tell(self, burst: Samples, first: int, stretch: Stretch) -> list[HeardWord]:
        """Return the words of a burst that begins with this sample of its stretch."""
        if len(burst) < _SHORTEST_SAMPLES or not self._words:
            return []
        spare = len(burst) - self._sounding
        if spare >= _SHORTEST_SAMPLES:
            # A truncated word, directly followed by the next words.
            tail = self._tell(burst[spare:], first + spare, stretch)
            return [*self._tell(burst[:spare], first, stretch), *tail]
        # The word may begin a little later than its burst, because a pause is not part of it.
        at_seconds = stretch.time_of(first + _LAG_SAMPLES) - _LAG_SAMPLES / SAMPLE_RATE_HZ
        share = min(1.0, len(burst) / self._sounding)
        if len(burst) < _TELLING_SAMPLES:
            return [HeardWord(at_seconds, UNKNOWN, share)]
        word, score = self._likeliest(burst[: self._sounding])
        if spare > 0 and score < _ALIKE:
            # Before this word lies the last swell of a truncated word, which is too short for a word.
            word, score = self._likeliest(burst[spare:])
        return [HeardWord(at_seconds, word if score >= _ALIKE * _known_share(share) else UNKNOWN, share)]

    def _likeliest(self, burst: Samples) -> tuple[str, float]:
        """Return the word that is most similar to a sound, and the similarity."""
        products = np.fft.irfft(np.fft.rfft(burst, _FFT_SAMPLES) * self._spectra, _FFT_SAMPLES, axis=1)
        # The burst may begin later than its word or, after a truncated word, a little earlier.
        likely = np.concatenate((products[:, : _LAG_SAMPLES + 1], products[:, -_LAG_SAMPLES:]), axis=1)
        energy = float(np.dot(burst, burst))
        known = self._energies[:, min(len(burst) + _LAG_SAMPLES, self._sounding) - 1]
        scores = likely.max(axis=1) / np.sqrt(np.maximum(known * energy, 1.0))
        best = int(np.argmax(scores))
        return self._words[best], float(scores[best])


def played(playout: PlayoutBuffer, now_seconds: float) -> list[Stretch]:
    """Return the audio played to a caller as stretches: a new one begins after each dropped part."""
    stretches: list[Stretch] = []
    pcm, begins_at, broken = playout.received_pcm, 0.0, True
    parts: list[bytes] = []
    pauses: list[tuple[int, float]] = []
    samples = 0
    for segment in playout.segments(now_seconds):
        if broken:
            if parts:
                stretches.append(Stretch(begins_at, b"".join(parts), tuple(pauses)))
            parts, pauses, samples, begins_at = [], [], 0, segment.start_sample / SAMPLE_RATE_HZ
        else:
            pauses.append((samples, segment.start_sample / SAMPLE_RATE_HZ))
        first = segment.first_sample * 2
        parts.append(pcm[first : first + segment.played_samples * 2])
        samples += segment.played_samples
        broken = segment.end is not SegmentEnd.EMPTY
    if parts:
        stretches.append(Stretch(begins_at, b"".join(parts), tuple(pauses)))
    return stretches


def _known_share(share: float) -> float:
    """Return the share that counts as heard: a beginning is compared with a little more than itself."""
    return 1.0 if share >= _WHOLE_SHARE else 0.85


def _bursts(samples: Samples) -> Sequence[tuple[int, int]]:
    """Return the sounds as (first sample, end)."""
    loud = np.flatnonzero(np.abs(samples) >= _SILENCE_LEVEL)
    if not loud.size:
        return []
    breaks = np.flatnonzero(np.diff(loud) > _SILENCE_SAMPLES)
    firsts = np.concatenate((loud[:1], loud[breaks + 1]))
    lasts = np.concatenate((loud[breaks], loud[-1:]))
    return [(int(first), int(last) + 1) for first, last in zip(firsts, lasts, strict=True)]


@functools.lru_cache(maxsize=512)
def _sound(word: str, word_ms: int) -> Samples:
    """Return a word at 8 kHz without its silence. The voice has nothing above 3400 Hz that could fold down."""
    samples = np.frombuffer(WordVoice([word], word_ms).pcm(0, word_ms), "<i2")[::3].astype(np.float32)
    return samples[: int(np.flatnonzero(np.abs(samples) >= 1)[-1]) + 1]

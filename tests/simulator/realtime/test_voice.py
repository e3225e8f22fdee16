from __future__ import annotations

import numpy as np
import pytest

from simulator.realtime.voice import (
    SAMPLES_PER_MS,
    ToneVoice,
    WordVoice,
    dominant_hz,
    heard_words,
    number_word,
    reply_words,
)
from tests.simulator.realtime_driver import silence, tone


def _dbfs(pcm: bytes) -> float:
    samples = np.frombuffer(pcm, dtype="<i2").astype(np.float64)
    return float(20 * np.log10(np.sqrt(np.mean(samples**2)) / 32768))


def test_every_word_is_as_long_as_the_others_and_can_be_heard() -> None:
    voice = WordVoice(["alpha", "bravo", "charlie"], 400)
    pcm = voice.pcm(0, 1200)
    assert len(pcm) == 1200 * SAMPLES_PER_MS * 2
    for start in (0, 400, 800):
        word = pcm[start * 48 : (start + 400) * 48]
        assert -24 < _dbfs(word[: 320 * 48]) < -16
        assert not np.frombuffer(word[320 * 48 :], dtype="<i2").any()


def test_words_sound_different_and_the_same_word_sounds_the_same() -> None:
    voice = WordVoice(["alpha", "bravo", "alpha"], 400)
    assert voice.pcm(0, 400) == voice.pcm(800, 1200)
    assert voice.pcm(0, 400) != voice.pcm(400, 800)


def test_words_neither_click_nor_clip() -> None:
    for word in ("alpha", "bravo", "charlie", "delta", "greeting", "reply", "turn", "one"):
        samples = np.frombuffer(WordVoice([word], 400).pcm(0, 400), dtype="<i2").astype(np.int32)
        assert abs(samples[0]) < 50
        assert np.max(np.abs(samples)) < 32767 * 0.71
        # Nothing above the telephone band: a click would be there.
        spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size))) ** 2
        hz = np.fft.rfftfreq(samples.size, 1 / 24_000)
        assert spectrum[hz > 5000].sum() < 1e-5 * spectrum.sum()


@pytest.mark.parametrize("voice", [WordVoice(["alpha", "bravo", "charlie"], 400), ToneVoice(997.0)])
def test_sound_does_not_depend_on_how_it_is_cut(voice: WordVoice | ToneVoice) -> None:
    cut = [(0, 130), (130, 390), (390, 410), (410, 1200)]
    assert b"".join(voice.pcm(*each) for each in cut) == voice.pcm(0, 1200)


def test_the_tone_is_one_clean_sine_at_minus_ten_dbfs() -> None:
    pcm = b"".join(ToneVoice(1234.5).pcm(start, start + 100) for start in range(0, 2000, 100))
    samples = np.frombuffer(pcm, dtype="<i2").astype(np.float64)
    time = np.arange(samples.size) / 24_000
    basis = np.column_stack((np.sin(2 * np.pi * 1234.5 * time), np.cos(2 * np.pi * 1234.5 * time)))
    (sine, cosine), *_ = np.linalg.lstsq(basis, samples)
    noise = samples - basis @ np.array([sine, cosine])
    assert 20 * np.log10(np.hypot(sine, cosine) / 32767) == pytest.approx(-10, abs=0.01)
    assert 10 * np.log10(np.mean(samples**2) / np.mean(noise**2)) > 80


@pytest.mark.parametrize("hz", [300.0, 333.3, 777.77, 1000.0, 1999.5, 3400.0])
def test_strongest_frequency_is_measured_to_a_tenth_of_a_hertz(hz: float) -> None:
    measured = dominant_hz(tone(500, hz))
    assert measured == pytest.approx(hz, abs=0.1)


def test_tone_is_found_in_noise_and_beside_one_out_of_band() -> None:
    mixed = np.frombuffer(tone(1000, 800.0, -20), dtype="<i2") + np.frombuffer(tone(1000, 100.0, -10), dtype="<i2")
    noise = np.random.default_rng(3).normal(0, 300, mixed.size)
    assert dominant_hz((mixed + noise).astype("<i2").tobytes()) == pytest.approx(800, abs=0.5)


@pytest.mark.parametrize("pcm", [b"", tone(40), silence(500)])
def test_quiet_or_short_audio_has_no_frequency(pcm: bytes) -> None:
    assert dominant_hz(pcm) is None


def test_reply_says_its_number_in_distinct_words() -> None:
    assert " ".join(reply_words(number=1, turn=0, count=4, greets=True)) == "greeting one alpha bravo"
    assert " ".join(reply_words(number=3, turn=2, count=6, greets=False)) == "reply three turn two alpha bravo"
    assert reply_words(number=3, turn=2, count=1, greets=False) == ["reply"]
    letters = reply_words(number=1, turn=1, count=300, greets=False)[4:]
    assert len(letters) == 296 == len(set(letters))


@pytest.mark.parametrize(
    ("speech_ms", "text"),
    [
        (0, "heard nothing"),
        (1, "heard one"),
        (400, "heard one"),
        (401, "heard one two"),
        (1000, "heard one two three"),
    ],
)
def test_transcription_hears_one_word_for_each_started_length(speech_ms: int, text: str) -> None:
    assert heard_words(speech_ms, 400) == text


def test_numbers_are_one_word_each() -> None:
    assert [number_word(each) for each in (0, 7, 20, 21)] == ["zero", "seven", "twenty", "21"]

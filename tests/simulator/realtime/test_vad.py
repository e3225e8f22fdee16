from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.realtime.vad import EnergyVad, SpeechStarted, SpeechStopped, VadState, threshold_dbfs
from tests.simulator.realtime_driver import silence, tone


def _feed(vad: EnergyVad, pcm: bytes, samples: int = 480) -> list[SpeechStarted | SpeechStopped]:
    events = []
    audio = np.frombuffer(pcm, dtype="<i2")
    for start in range(0, audio.size, samples):
        events += vad.feed(audio[start : start + samples])
    return events


def test_speech_is_found_where_it_is() -> None:
    vad = EnergyVad(silence_ms=500)
    events = _feed(vad, silence(400) + tone(1000) + silence(800))
    assert events == [SpeechStarted(400), SpeechStopped(400, 1400, 1900)]
    assert vad.position_ms == 2200


def test_silence_shorter_than_asked_for_does_not_end_speech() -> None:
    vad = EnergyVad(silence_ms=500)
    events = _feed(vad, tone(300) + silence(480) + tone(300) + silence(500))
    assert events == [SpeechStarted(0), SpeechStopped(0, 1080, 1580)]


def test_speech_that_goes_on_is_not_over() -> None:
    vad = EnergyVad()
    assert _feed(vad, tone(5000)) == [SpeechStarted(0)]
    assert vad.state is VadState.SPEECH
    assert vad.speech_end_ms == 5000


def test_a_click_is_not_speech() -> None:
    assert _feed(EnergyVad(), silence(200) + tone(40) + silence(200) + tone(40) + silence(1000)) == []


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.9])
def test_the_threshold_is_a_level(threshold: float) -> None:
    # A sine's RMS is 3 dB below its peak.
    peak_dbfs = threshold_dbfs(threshold) + 3.01
    assert not _feed(EnergyVad(threshold=threshold), tone(500, dbfs=peak_dbfs - 1))
    assert _feed(EnergyVad(threshold=threshold), tone(500, dbfs=peak_dbfs + 1)) == [SpeechStarted(0)]


def test_default_threshold_is_between_line_noise_and_speech() -> None:
    noise = np.random.default_rng(1).normal(0, 32768 * 10 ** (-60 / 20), 24_000).astype("<i2").tobytes()
    assert not _feed(EnergyVad(), noise)
    assert _feed(EnergyVad(), tone(500, dbfs=-30))


def test_after_a_reset_speech_that_goes_on_begins_anew() -> None:
    vad = EnergyVad()
    _feed(vad, tone(1000))
    vad.reset()
    assert _feed(vad, tone(200)) == [SpeechStarted(1000)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 3000), min_size=1, max_size=60))
def test_detection_does_not_depend_on_how_audio_is_cut(cuts: list[int]) -> None:
    pcm = silence(90) + tone(330) + silence(600) + tone(70) + silence(250) + tone(500) + silence(700)
    audio = np.frombuffer(pcm, dtype="<i2")
    whole = EnergyVad(silence_ms=300).feed(audio)
    vad = EnergyVad(silence_ms=300)
    events = []
    position = 0
    for cut in [*cuts, audio.size]:
        events += vad.feed(audio[position : position + cut])
        position = min(audio.size, position + cut)
    assert events == whole
    assert len(whole) == 4

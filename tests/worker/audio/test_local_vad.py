from __future__ import annotations

import itertools
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simulator
from worker.audio.local_vad import FRAME_BYTES, FRAME_MS, LocalVad, SpeechStarted, SpeechStopped, VadState

_CALLER_WAV = Path(simulator.__file__).parent / "speech" / "caller.wav"
_FRAME_20_MS = 320

Events = list[SpeechStarted | SpeechStopped]


def _caller() -> bytes:
    with wave.open(str(_CALLER_WAV)) as file:
        pcm: bytes = file.readframes(file.getnframes())
    return pcm


def _loud_ms(pcm: bytes) -> list[int]:
    """Return the starts and ends of audio above -45 dBFS, ignoring pauses of less than a second."""
    samples = np.frombuffer(pcm, "<i2").astype(float)
    rms = np.sqrt(np.mean(samples[: len(samples) // 160 * 160].reshape(-1, 160) ** 2, axis=1))
    loud = np.flatnonzero(rms > 32768 * 10 ** (-45 / 20)) * 20
    gaps = np.flatnonzero(np.diff(loud) > 1000)
    return [int(loud[0]), *(int(at) for gap in gaps for at in (loud[gap] + 20, loud[gap + 1])), int(loud[-1]) + 20]


_CALLER = _caller()
_FIRST_MS, _FIRST_END_MS, _SECOND_MS, _SECOND_END_MS = _TURNS_MS = _loud_ms(_CALLER)


def _silence(milliseconds: int) -> bytes:
    return bytes(16 * milliseconds)


def _noise(milliseconds: int, dbfs: float, seed: int = 1) -> bytes:
    samples = np.random.default_rng(seed).normal(0, 32768 * 10 ** (dbfs / 20), 8 * milliseconds)
    pcm: bytes = np.rint(samples).astype("<i2").tobytes()
    return pcm


def _tone(milliseconds: int, hz: float, dbfs: float = -20) -> bytes:
    wave = 32767 * 10 ** (dbfs / 20) * np.sin(2 * np.pi * hz / 8000 * np.arange(8 * milliseconds))
    pcm: bytes = np.rint(wave).astype("<i2").tobytes()
    return pcm


def _mixed(one: bytes, other: bytes) -> bytes:
    length = min(len(one), len(other))
    total = np.frombuffer(one[:length], "<i2").astype(int) + np.frombuffer(other[:length], "<i2")
    pcm: bytes = total.clip(-32768, 32767).astype("<i2").tobytes()
    return pcm


def _times(events: Events) -> list[int]:
    assert [type(event) for event in events] == [SpeechStarted, SpeechStopped] * (len(events) // 2)
    return [event.at_ms for event in events]


# Speech.


@pytest.mark.parametrize("threshold", [0, 0.25, 0.5, 0.75, 1])
def test_the_recorded_caller_speaks_exactly_two_turns(threshold: float) -> None:
    times = _times(LocalVad(threshold=threshold).feed(_CALLER))
    assert times == pytest.approx(_TURNS_MS, abs=200)


@pytest.mark.parametrize("dbfs", [-60, -50, -40])
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8])
def test_a_noisy_line_does_not_change_the_turns(dbfs: float, threshold: float) -> None:
    noisy = _mixed(_CALLER, _noise(9000, dbfs))
    assert _times(LocalVad(threshold=threshold).feed(noisy)) == pytest.approx(_TURNS_MS, abs=200)


def test_speech_is_detected_within_200_ms() -> None:
    vad = LocalVad()
    noticed_ms = 0
    while vad.state is VadState.SILENCE:
        position = vad.position_ms * 16
        vad.feed(_CALLER[position : position + _FRAME_20_MS])
        noticed_ms = vad.position_ms
    assert noticed_ms <= _FIRST_MS + 200


def test_end_is_detected_after_the_configured_silence() -> None:
    vad = LocalVad(silence_ms=700)
    stopped = None
    for start in range(0, 5000 * 16, _FRAME_20_MS):
        stopped = next(
            (each for each in vad.feed(_CALLER[start : start + 320]) if isinstance(each, SpeechStopped)), None
        )
        if stopped:
            break
    assert stopped is not None
    assert vad.position_ms == stopped.at_ms + 700
    assert vad.state is VadState.SILENCE


def test_a_pause_shorter_than_the_silence_does_not_end_the_turn() -> None:
    gap_ms = _SECOND_MS - _FIRST_END_MS
    shorter, longer = LocalVad(silence_ms=gap_ms - 300), LocalVad(silence_ms=gap_ms + 300)
    assert _times(shorter.feed(_CALLER + _silence(gap_ms))) == pytest.approx(_TURNS_MS, abs=200)
    assert _times(longer.feed(_CALLER + _silence(gap_ms + 400))) == pytest.approx(
        [_FIRST_MS, _SECOND_END_MS], abs=200
    )


def test_click_in_the_silence_does_not_delay_the_end() -> None:
    speech, click = _CALLER[: 3400 * 16], _noise(20, -10)
    plain = LocalVad().feed(speech + _silence(2000))
    clicked = LocalVad().feed(speech + (_silence(180) + click) * 10)
    assert _times(plain) == _times(clicked)


# Sounds that are not speech.


def test_silence_is_no_speech() -> None:
    assert LocalVad(threshold=0).feed(_silence(20_000)) == []


@pytest.mark.parametrize("threshold", [0, 0.3, 0.5, 0.8])
@pytest.mark.parametrize("dbfs", [-90, -75, -60, -50])
@pytest.mark.parametrize("before_ms", [0, 1000])
def test_noise_and_its_start_are_no_speech(threshold: float, dbfs: float, before_ms: int) -> None:
    for seed in range(5):
        vad = LocalVad(threshold=threshold)
        assert vad.feed(_silence(before_ms) + _noise(5000, dbfs, seed)) == []


def test_a_click_is_no_speech() -> None:
    assert LocalVad(threshold=0).feed((_silence(480) + _noise(20, -6)) * 10) == []


def test_tone_is_detected_as_one_turn() -> None:
    """A known limit of the library: a caller's tones count as speech."""
    times = _times(LocalVad().feed(_silence(500) + _tone(1000, 440) + _silence(1000)))
    assert times == pytest.approx([500, 1500], abs=150)


# Chunks, resets and settings.


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(1, 5000), min_size=1, max_size=10))
def test_chunk_sizes_do_not_change_the_turns(sizes: list[int]) -> None:
    vad, events, position = LocalVad(), [], 0
    for size in itertools.cycle(sizes):
        if position >= len(_CALLER):
            break
        events += vad.feed(_CALLER[position : position + size])
        position += size
    assert events == LocalVad().feed(_CALLER)
    assert vad.position_ms == len(_CALLER) // FRAME_BYTES * FRAME_MS


def test_detectors_of_two_calls_are_independent() -> None:
    one, other = LocalVad(), LocalVad()
    events: Events = []
    for start in range(0, len(_CALLER), FRAME_BYTES):
        events += one.feed(_CALLER[start : start + FRAME_BYTES])
        assert other.feed(_silence(20)) == []
    assert events == LocalVad().feed(_CALLER)


def test_speech_after_a_reset_is_new_and_the_clock_continues() -> None:
    vad = LocalVad()
    assert len(vad.feed(_CALLER[: 1500 * 16])) == 1
    vad.reset()
    started, *rest = vad.feed(_CALLER[1500 * 16 :])
    assert isinstance(started, SpeechStarted)
    assert 1500 <= started.at_ms <= 1600
    assert _times(rest[1:]) == pytest.approx([_SECOND_MS, _SECOND_END_MS], abs=200)


def test_reset_in_silence_changes_nothing() -> None:
    vad = LocalVad()
    vad.feed(_CALLER[: 4500 * 16])
    vad.reset()
    assert vad.feed(_silence(3000)) == []


def test_the_shortest_silence_is_a_frame() -> None:
    none, shortest = LocalVad(silence_ms=0).feed(_CALLER), LocalVad(silence_ms=FRAME_MS).feed(_CALLER)
    assert none == shortest
    assert len(_times(none)) > 4


@pytest.mark.parametrize(
    ("arguments", "named"),
    [({"threshold": 1.1}, "threshold"), ({"threshold": -1}, "threshold"), ({"silence_ms": -1}, "silence_ms")],
)
def test_values_out_of_range_are_refused(arguments: dict[str, float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        LocalVad(**arguments)  # type: ignore[arg-type]  # what is wrong

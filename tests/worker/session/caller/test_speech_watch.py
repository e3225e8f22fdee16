"""Speech whose end the Realtime API has missed, found with recorded speech, silence and noise."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import simulator
from worker.session.caller.speech_watch import (
    LONGEST_SECONDS,
    SILENCE_SECONDS,
    SpeechWatch,
    WatchState,
    allowed_silence_seconds,
)

NOW = 100.0
FRAME_SECONDS = 0.02
FRAME_BYTES = 320


def _speech() -> bytes:
    with wave.open(str(Path(simulator.__file__).parent / "speech" / "caller.wav")) as file:
        pcm: bytes = file.readframes(file.getnframes())
    return pcm


def _voice(pcm: bytes) -> bytes:
    """Return the parts of speech that are louder than -35 dBFS."""
    samples = np.frombuffer(pcm, "<i2")
    frames = samples[: len(samples) // 160 * 160].reshape(-1, 160)
    rms = np.sqrt(np.mean(frames.astype(float) ** 2, axis=1))
    voiced: bytes = frames[rms > 32768 * 10 ** (-35 / 20)].tobytes()
    return voiced


def _noise(seconds: float, dbfs: float = -45) -> bytes:
    samples = np.random.default_rng(1).normal(0, 32768 * 10 ** (dbfs / 20), int(8000 * seconds))
    pcm: bytes = np.rint(samples).astype("<i2").tobytes()
    return pcm


SPEECH = _speech()
VOICE = _voice(SPEECH)


class Line:
    """A caller's line that a watch listens to, in frames of 20 ms."""

    def __init__(self, silence_seconds: float = SILENCE_SECONDS) -> None:
        self.watch = SpeechWatch(silence_seconds)
        self.now = NOW
        self.starts: list[float] = []

    def _frames(self, pcm: bytes, seconds: float) -> Iterator[bytes]:
        for number in range(round(seconds / FRAME_SECONDS)):
            start = number * FRAME_BYTES % (len(pcm) - FRAME_BYTES + 1)
            yield pcm[start : start + FRAME_BYTES]

    def hear(self, pcm: bytes, seconds: float) -> float | None:
        """Play this for so long, again and again; returns when the speech became overdue."""
        overdue_seconds = None
        for frame in self._frames(pcm, seconds):
            self.now += FRAME_SECONDS
            if self.watch.audio(frame, self.now):
                self.starts.append(self.now)
            if overdue_seconds is None and self.watch.is_overdue(self.now):
                overdue_seconds = self.now
        return overdue_seconds

    def silence(self, seconds: float) -> float | None:
        return self.hear(bytes(FRAME_BYTES), seconds)


def speaking(silence_seconds: float = SILENCE_SECONDS) -> Line:
    """Return a line whose speech the API has heard begin."""
    line = Line(silence_seconds)
    line.watch.began(line.now)
    return line


def alone() -> Line:
    """Return a line whose turn was ended here, while the API still reports speech."""
    line = speaking()
    assert line.silence(SILENCE_SECONDS + 0.1) is not None
    assert line.watch.state is WatchState.ALONE
    return line


class TestAllowedSilence:
    @pytest.mark.parametrize(
        ("turn_detection", "seconds"),
        [
            (None, SILENCE_SECONDS),
            ({"type": "server_vad"}, SILENCE_SECONDS),
            ({"type": "server_vad", "silence_duration_ms": 500}, SILENCE_SECONDS),
            ({"type": "server_vad", "silence_duration_ms": 6000}, 7.0),
            ({"type": "server_vad", "silence_duration_ms": None}, SILENCE_SECONDS),
            ({"type": "semantic_vad"}, 5.0),
            ({"type": "semantic_vad", "eagerness": "auto"}, 5.0),
            ({"type": "semantic_vad", "eagerness": "low"}, 9.0),
            ({"type": "semantic_vad", "eagerness": "medium"}, 5.0),
            ({"type": "semantic_vad", "eagerness": "high"}, SILENCE_SECONDS),
            ({"type": "semantic_vad", "eagerness": "of next year"}, 5.0),
        ],
    )
    def test_it_follows_the_turn_detection(self, turn_detection: Any, seconds: float) -> None:
        assert allowed_silence_seconds(turn_detection) == seconds


class TestSpeech:
    def test_silence_of_3_s_ends_speech(self) -> None:
        assert speaking().silence(5.0) == pytest.approx(NOW + SILENCE_SECONDS, abs=0.03)

    def test_a_caller_who_thinks_is_waited_for(self) -> None:
        seconds = allowed_silence_seconds({"type": "semantic_vad", "eagerness": "low"})
        assert speaking(seconds).silence(10.0) == pytest.approx(NOW + 9.0, abs=0.03)

    def test_steady_noise_is_no_voice(self) -> None:
        line = speaking()
        overdue_seconds = line.hear(_noise(6.0), 6.0)
        # The detector learns the noise first.
        assert overdue_seconds is not None
        assert overdue_seconds - NOW < SILENCE_SECONDS + 1.0

    @pytest.mark.parametrize("click_ms", [10, 40])
    def test_clicks_on_the_line_are_no_voice(self, click_ms: int) -> None:
        click = _noise(click_ms / 1000, -12)
        line = speaking()
        overdue_seconds = line.hear(click + bytes(16_000 - len(click)), 6.0)
        assert overdue_seconds is not None
        assert overdue_seconds - NOW < SILENCE_SECONDS + 1.0

    def test_the_silence_counts_from_the_last_voice(self) -> None:
        line = speaking()
        assert line.hear(VOICE, 4.0) is None
        ended_seconds = line.now
        overdue_seconds = line.silence(5.0)
        assert overdue_seconds is not None
        # The detector holds on for a moment after a sound.
        assert SILENCE_SECONDS - 0.05 <= overdue_seconds - ended_seconds <= SILENCE_SECONDS + 0.4

    def test_a_pause_between_sentences_does_not_end_speech(self) -> None:
        line = speaking()
        for _ in range(3):
            assert line.hear(VOICE, 1.0) is None
            assert line.silence(2.0) is None

    def test_voice_is_not_ended_before_five_minutes(self) -> None:
        line = speaking()
        assert line.hear(VOICE, LONGEST_SECONDS - 1.0) is None
        assert line.hear(VOICE, 2.0) == pytest.approx(NOW + LONGEST_SECONDS, abs=0.03)

    def test_audio_in_pieces_of_any_size_is_understood(self) -> None:
        line, position = speaking(), 0
        while position < 160_000:
            piece = (VOICE * 10)[position : position + 200]
            line.now += len(piece) / 16_000
            line.watch.audio(piece, line.now)
            position += len(piece)
            assert not line.watch.is_overdue(line.now)

    def test_a_line_that_brings_no_audio_is_silent(self) -> None:
        watch = speaking().watch
        assert not watch.is_overdue(NOW + SILENCE_SECONDS - 0.01)
        assert watch.is_overdue(NOW + SILENCE_SECONDS)

    def test_an_end_that_the_api_hears_stops_the_watch(self) -> None:
        line = speaking()
        line.watch.ended()
        assert line.watch.state is WatchState.OFF
        assert line.silence(10.0) is None

    def test_without_speech_nothing_is_overdue(self) -> None:
        line = Line()
        assert line.silence(10.0) is None
        assert line.watch.state is WatchState.OFF


class TestAlone:
    def test_overdue_is_reported_once(self) -> None:
        line = alone()
        assert line.silence(10.0) is None

    def test_our_detector_hears_the_next_speech_begin(self) -> None:
        line = alone()
        line.silence(1.0)
        began_seconds = line.now
        assert line.hear(VOICE, 2.0) is None
        (start,) = line.starts
        assert start - began_seconds < 0.5
        # This speech ends by silence, too.
        ended_seconds = line.now
        overdue_seconds = line.silence(5.0)
        assert overdue_seconds is not None
        assert overdue_seconds - ended_seconds <= SILENCE_SECONDS + 0.4
        assert line.watch.state is WatchState.ALONE

    def test_silence_and_noise_begin_no_speech(self) -> None:
        line = alone()
        line.silence(2.0)
        line.hear(_noise(10.0), 10.0)
        assert line.starts == []
        assert line.watch.state is WatchState.ALONE

    def test_a_beginning_that_the_api_hears_takes_over(self) -> None:
        line = alone()
        line.watch.began(line.now)
        assert line.watch.state is WatchState.SPEECH
        assert line.silence(2.9) is None
        assert line.silence(0.2) is not None

    def test_the_end_that_the_api_hears_at_last_counts(self) -> None:
        line = alone()
        line.watch.ended()
        assert line.watch.state is WatchState.OFF
        line.hear(VOICE, 2.0)
        assert line.starts == []


def test_recorded_speech_is_overdue_between_its_turns() -> None:
    # The recording has two turns with silence between them.
    line = speaking(1.0)
    assert line.hear(SPEECH, len(SPEECH) / 16_000) is not None
    assert len(line.starts) == 1

"""Gaps, jitter and level of a caller's audio."""

from __future__ import annotations

import math
import struct

import pytest

from dispatcher.call.action_queue import ActionQueue
from dispatcher.call.actions import Measurement, Metric
from dispatcher.call.caller.line_quality import JITTER_GAIN, SILENCE_DBFS, LineQuality

FRAME_SECONDS = 0.02
SQUARE = struct.pack("<160h", *(-32768, 32767) * 80)
SINE = struct.pack("<160h", *(round(32767 * math.sin(math.tau * n / 16)) for n in range(160)))
QUIET = struct.pack("<160h", *(-33, 33) * 80)


class Line:
    """A caller's line, whose clock a test moves."""

    def __init__(self, *, is_speaking: bool = False) -> None:
        self.out = ActionQueue()
        self.quality = LineQuality(self.out)
        self.quality.is_speaking = is_speaking
        self.now = 1000.0

    def frames(self, number: int, *, after_seconds: float = FRAME_SECONDS, pcm: bytes = SINE) -> None:
        for _ in range(number):
            self.now += after_seconds
            self.quality.audio(pcm, self.now)

    def seen(self, metric: Metric) -> list[float]:
        assert all(isinstance(each, Measurement) for each in self.out.actions)
        return [each.value for each in self.out.actions if isinstance(each, Measurement) and each.seen is metric]


class TestGaps:
    @pytest.mark.parametrize(("seconds", "gaps"), [(0.02, []), (0.099, []), (0.12, [0.12]), (3.0, [3.0])])
    def test_a_pause_of_over_100_ms_is_a_gap(self, seconds: float, gaps: list[float]) -> None:
        line = Line()
        line.frames(1)
        line.frames(1, after_seconds=seconds)
        line.frames(10)
        assert line.seen(Metric.CALLER_GAP_SECONDS) == pytest.approx(gaps)

    def test_the_time_before_the_first_frame_is_no_gap(self) -> None:
        line = Line()
        line.frames(1, after_seconds=5.0)
        assert line.seen(Metric.CALLER_GAP_SECONDS) == []

    def test_the_time_between_two_connections_is_no_gap(self) -> None:
        line = Line()
        line.frames(10)
        line.quality.restart()
        line.frames(1, after_seconds=5.0)
        assert line.seen(Metric.CALLER_GAP_SECONDS) == []


class TestJitter:
    def test_even_frames_have_none(self) -> None:
        line = Line()
        line.frames(260)
        assert line.seen(Metric.CALLER_JITTER_SECONDS) == [pytest.approx(0.0, abs=1e-9)]

    def test_frames_that_are_read_together_are_one_packet(self) -> None:
        line = Line()
        line.frames(140, after_seconds=0.04, pcm=SINE * 2)
        assert line.seen(Metric.CALLER_JITTER_SECONDS) == [pytest.approx(0.0, abs=1e-9)]

    def test_it_is_that_of_rfc_3550(self) -> None:
        line = Line()
        line.frames(1)
        expected = 0.0
        for number in range(260):
            interval = 0.03 if number % 2 else 0.01
            line.frames(1, after_seconds=interval)
            if not line.seen(Metric.CALLER_JITTER_SECONDS):
                expected += (abs(interval - FRAME_SECONDS) - expected) * JITTER_GAIN
        (measured,) = line.seen(Metric.CALLER_JITTER_SECONDS)
        assert measured == pytest.approx(expected, abs=1e-3)
        assert measured == pytest.approx(0.01, abs=1e-4)

    def test_a_call_has_a_value_every_5_s(self) -> None:
        line = Line()
        line.frames(50 * 61)
        assert len(line.seen(Metric.CALLER_JITTER_SECONDS)) in (11, 12)


class TestLevel:
    @pytest.mark.parametrize(
        ("pcm", "dbfs"), [(SQUARE, 0.0), (SINE, -3.01), (QUIET, -59.9), (bytes(320), SILENCE_DBFS)]
    )
    def test_it_is_in_db_of_full_scale(self, pcm: bytes, dbfs: float) -> None:
        line = Line(is_speaking=True)
        line.frames(260, pcm=pcm)
        assert line.seen(Metric.CALLER_LEVEL_DBFS) == [pytest.approx(dbfs, abs=0.05)]

    def test_silence_between_words_counts_by_its_power(self) -> None:
        line = Line(is_speaking=True)
        line.frames(52)
        line.frames(260, pcm=bytes(320))
        (first, *_) = line.seen(Metric.CALLER_LEVEL_DBFS)
        assert first == pytest.approx(-3.01 + 10 * math.log10(1 / 5), abs=0.1)

    def test_a_caller_who_does_not_speak_has_none(self) -> None:
        line = Line()
        line.frames(600)
        assert line.seen(Metric.CALLER_LEVEL_DBFS) == []

    def test_short_packets_have_a_level(self) -> None:
        line = Line(is_speaking=True)
        line.frames(60_000, after_seconds=0.0001, pcm=SQUARE[:2])
        assert line.seen(Metric.CALLER_LEVEL_DBFS) == [pytest.approx(0.0, abs=0.05)]

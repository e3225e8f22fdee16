from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.avr.playout import SAMPLE_RATE_HZ, PlayoutBuffer, Segment, SegmentEnd


def _sound(milliseconds: float, first: int = 1) -> bytes:
    """Samples that are all different, so that one in the wrong place is seen."""
    samples = round(milliseconds * 8)
    return np.arange(first, first + samples).astype("<i2").tobytes()


def _silence(milliseconds: float) -> bytes:
    return bytes(round(milliseconds * 8) * 2)


def test_audio_is_heard_from_its_arrival_on_in_real_time() -> None:
    playout = PlayoutBuffer(100.0)
    playout.add(_sound(40), 100.1)
    assert playout.heard(100.1) == _silence(100)
    assert playout.heard(100.13) == _silence(100) + _sound(40)[: 30 * 16]
    assert playout.heard(100.2) == _silence(100) + _sound(40) + _silence(60)
    assert playout.heard_ms(100.13) == 30.0
    assert playout.queued_ms(100.13) == 10.0
    assert playout.queued_ms(100.2) == 0.0
    assert playout.silent_ms(100.13) == 0.0
    assert playout.silent_ms(100.2) == 60.0


def test_audio_faster_than_playout_is_queued_and_played_in_order() -> None:
    playout = PlayoutBuffer(0.0)
    for number in range(5):
        playout.add(_sound(20, first=1 + number * 160), 1.0 + number * 0.001)
    assert playout.heard(2.0) == _silence(1000) + _sound(100) + _silence(900)
    assert playout.segments(2.0) == (Segment(8000, 0, 800, 800, SegmentEnd.EMPTY),)


def test_interruption_reports_heard_and_received_audio() -> None:
    playout = PlayoutBuffer(0.0)
    playout.add(_sound(8000, first=-30000), 1.0)
    dropped_samples = playout.clear(1.0 + 3.14)
    assert playout.heard_ms(10.0) == 3140.0
    assert dropped_samples == 4860 * 8
    assert playout.silent_ms(5.0) == 860.0
    assert playout.heard(5.0) == _silence(1000) + _sound(3140, first=-30000) + _silence(860)
    (segment,) = playout.segments(10.0)
    assert segment == Segment(8000, 0, 64000, 25120, SegmentEnd.INTERRUPTED)
    assert segment.unplayed_samples == dropped_samples


def test_audio_after_an_interruption_is_played_at_once() -> None:
    playout = PlayoutBuffer(0.0)
    playout.add(_sound(1000), 0.0)
    playout.clear(0.5)
    playout.add(_sound(100, first=20000), 0.75)
    assert playout.heard(1.0) == (_sound(500) + _silence(250) + _sound(100, first=20000) + _silence(150))
    assert [segment.first_sample for segment in playout.segments(1.0)] == [0, 8000]


def test_two_adjacent_replies_have_their_own_heard_parts() -> None:
    playout = PlayoutBuffer(0.0)
    playout.add(_sound(300), 0.0)
    playout.add(_sound(400), 0.1)
    playout.clear(0.45)
    assert playout.heard_samples(1.0, 0, 2400) == 2400
    assert playout.heard_samples(1.0, 2400) == 150 * 8
    assert playout.heard_samples(1.0, 2400, 2400 + 80) == 80


def test_clearing_an_empty_buffer_drops_nothing() -> None:
    playout = PlayoutBuffer(0.0)
    assert playout.clear(1.0) == 0
    assert playout.silent_ms(1.0) == 1000.0
    playout.add(_sound(20), 1.0)
    assert playout.clear(1.02) == 0
    assert playout.segments(2.0)[0].end is SegmentEnd.EMPTY


def test_late_frame_is_a_gap_and_a_punctual_one_is_not() -> None:
    playout = PlayoutBuffer(0.0)
    playout.add(_sound(20), 0.0)
    playout.add(_sound(20), 0.02)  # on the very sample on which the last one ends
    playout.add(_sound(20), 0.04 + 0.0125)
    assert playout.gaps_ms(1.0, shorter_than_ms=1000) == (12.5,)
    assert len(playout.segments(1.0)) == 2


def test_pause_between_replies_or_after_a_flush_is_no_gap() -> None:
    playout = PlayoutBuffer(0.0)
    playout.add(_sound(20), 0.0)
    playout.add(_sound(500), 1.02)  # 1000 ms later
    playout.clear(1.1)
    playout.add(_sound(20), 1.2)
    assert playout.gaps_ms(2.0, shorter_than_ms=1000) == ()
    assert playout.gaps_ms(2.0, shorter_than_ms=1001) == (1000.0,)


def test_nothing_is_heard_after_the_end_of_the_call() -> None:
    playout = PlayoutBuffer(0.0)
    playout.add(_sound(500), 0.0)
    assert playout.end(0.2) == 300 * 8
    assert playout.heard(9.0) == _sound(200)
    assert playout.segments(9.0)[0].end is SegmentEnd.CALL_ENDED
    with pytest.raises(ValueError, match="the call has ended"):
        playout.add(_sound(20), 0.3)


def test_audio_beyond_the_record_limit_is_timed_but_not_kept() -> None:
    playout = PlayoutBuffer(0.0, record_limit_bytes=320)
    playout.add(_sound(20), 0.0)
    playout.add(_sound(20), 0.0)
    assert playout.received_pcm == _sound(20)
    assert playout.heard(0.05) == _sound(20) + _silence(30)
    assert playout.heard_ms(0.05) == 40.0


def test_half_a_sample_or_a_backward_clock_is_refused() -> None:
    playout = PlayoutBuffer(5.0)
    with pytest.raises(ValueError, match="3 bytes are not whole 16-bit samples"):
        playout.add(b"abc", 5.0)
    playout.add(_sound(20), 6.0)
    with pytest.raises(ValueError, match="went back by 4000 samples"):
        playout.heard(5.5)


_STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "clear", "look"]), st.integers(0, 50), st.integers(0, 40)), max_size=40
)


@given(_STEPS)
def test_playout_equals_a_sample_by_sample_loudspeaker(steps: list[tuple[str, int, int]]) -> None:
    playout = PlayoutBuffer(0.0)
    queue: list[int] = []
    heard: list[int] = []
    next_sample, heard_count, dropped_count = 1, 0, 0
    for action, wait_samples, samples in steps:
        for _ in range(wait_samples):
            heard_count += bool(queue)
            heard.append(queue.pop(0) if queue else 0)
        now_seconds = len(heard) / SAMPLE_RATE_HZ
        if action == "add":
            sound = list(range(next_sample, next_sample + samples))
            next_sample += samples
            queue += sound
            playout.add(np.array(sound, "<i2").tobytes(), now_seconds)
        elif action == "clear":
            dropped_count += len(queue)
            assert playout.clear(now_seconds) == len(queue)
            queue.clear()
        assert np.frombuffer(playout.heard(now_seconds), "<i2").tolist() == heard
        assert playout.heard_samples(now_seconds) == heard_count
        assert playout.queued_ms(now_seconds) == len(queue) / 8
    assert playout.received_samples == heard_count + dropped_count + len(queue)

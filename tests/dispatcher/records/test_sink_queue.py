from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.records.sink_queue import MAX_RETRY_AFTER_SECONDS, RECORD_PAUSE, SINK_PAUSE, SinkQueue


def queue(*record_ids: str) -> SinkQueue:
    made = SinkQueue(jitter=lambda: 1.0)
    for record_id in record_ids:
        made.push(record_id, 0.0)
    return made


def test_records_are_taken_in_order_up_to_the_limit() -> None:
    waiting = queue("a", "b", "c")
    assert waiting.take(0.0, 2) == ["a", "b"]
    assert waiting.take(0.0, 2) == ["c"]
    assert waiting.wake_at() is None


def test_record_is_queued_once() -> None:
    waiting = queue("a", "a")
    assert waiting.take(0.0, 10) == ["a"]
    waiting.push("a", 0.0)
    assert waiting.take(0.0, 10) == []


def test_sink_that_fails_pauses_and_tries_one_record() -> None:
    waiting = queue("a", "b", "c")
    waiting.failed(waiting.take(0.0, 1), 0.0)
    assert waiting.take(0.5, 10) == []
    assert waiting.wake_at() == 1.0
    assert waiting.take(1.0, 10) == ["b"]
    assert waiting.take(1.0, 10) == []
    assert waiting.wake_at() is None
    waiting.delivered(["b"])
    assert waiting.take(1.0, 10) == ["c"]
    assert waiting.take(2.0, 10) == ["a"]


def test_record_that_fails_alone_does_not_hold_back_others() -> None:
    waiting = queue("poison")
    now = 0.0
    for number in range(100):
        waiting.push(f"good-{number}", now)
        wake_at = waiting.wake_at()
        assert wake_at is not None
        now = max(now, wake_at)
        for record_id in waiting.take(now, 10):
            if record_id == "poison":
                waiting.failed([record_id], now)
            else:
                waiting.delivered([record_id])
    assert now < 100 * SINK_PAUSE.first_seconds


def test_receiver_may_ask_for_a_bounded_pause() -> None:
    waiting = queue("a")
    waiting.failed(waiting.take(0.0, 1), 0.0, 120.0)
    assert waiting.wake_at() == 120.0
    waiting.failed(waiting.take(120.0, 1), 120.0, 1e9)
    assert waiting.wake_at() == 120.0 + MAX_RETRY_AFTER_SECONDS


def test_pauses_are_bounded() -> None:
    waiting = queue("a")
    now = 0.0
    for _ in range(50):
        assert waiting.take(now, 1) == ["a"]
        waiting.failed(["a"], now)
        wake_at = waiting.wake_at()
        assert wake_at is not None
        assert wake_at - now <= max(RECORD_PAUSE.most_seconds, SINK_PAUSE.most_seconds)
        now = wake_at


def test_forgotten_record_is_not_taken() -> None:
    waiting = queue("a", "b")
    waiting.forget("a")
    assert waiting.take(0.0, 10) == ["b"]
    waiting.forget("b")
    waiting.failed(["b"], 0.0)
    assert waiting.wake_at() is None


@given(st.lists(st.sampled_from(["push", "take", "fail", "ok", "refuse"]), max_size=60), st.integers(1, 4))
def test_no_record_is_lost_or_taken_twice(steps: list[str], limit: int) -> None:
    waiting = SinkQueue()
    now, number = 0.0, 0
    queued: set[str] = set()
    flying: list[list[str]] = []
    for step in steps:
        now += 0.3
        if step == "push":
            number += 1
            queued.add(str(number))
            waiting.push(str(number), now)
        elif step == "take":
            taken = waiting.take(now, limit)
            assert set(taken) <= queued
            queued -= set(taken)
            if taken:
                flying.append(taken)
        elif flying:
            batch = flying.pop(0)
            if step == "fail":
                waiting.failed(batch, now)
                queued |= set(batch)
            elif step == "ok":
                waiting.delivered(batch)
            else:
                waiting.refused(batch)
    while flying:
        waiting.delivered(flying.pop())
    waiting.delivered([])
    now += RECORD_PAUSE.most_seconds
    assert set(waiting.take(now, 1000)) == queued

from __future__ import annotations

from typing import Any

import pytest

from simulator.realtime.faults import Faults
from simulator.realtime.session_faults import MAX_PENDING, SessionFaults
from tests.simulator.realtime_driver import Driver, kinds


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _statuses(faults: Faults, count: int) -> list[int | None]:
    refusals = [faults.take_refusal() for _ in range(count)]
    return [refusal.status if refusal else None for refusal in refusals]


def test_connections_are_refused_as_often_as_asked_for() -> None:
    faults = Faults()
    faults.refuse(status=503, times=2)
    faults.refuse(status=429)
    assert _statuses(faults, 4) == [503, 503, 429, None]


def test_connections_are_refused_for_as_long_as_asked_for() -> None:
    clock = _Clock()
    faults = Faults(clock)
    faults.refuse(status=429, seconds=10)
    assert _statuses(faults, 3) == [429, 429, 429]
    clock.now = 10.0
    assert _statuses(faults, 1) == [None]


def test_connections_above_a_rate_are_refused() -> None:
    clock = _Clock()
    faults = Faults(clock)
    faults.limit_connections(2, retry_after_seconds=3)
    assert _statuses(faults, 4) == [None, None, 429, 429]
    clock.now = 0.9
    refusal = faults.take_refusal()
    assert refusal is not None
    assert (refusal.code, refusal.retry_after_seconds) == ("rate_limit_exceeded", 3)
    # Refused connections do not count.
    clock.now = 1.0
    assert _statuses(faults, 3) == [None, None, 429]
    faults.limit_connections(None)
    assert _statuses(faults, 5) == [None] * 5


def test_clear_drops_the_limit_of_connections() -> None:
    faults = Faults()
    faults.limit_connections(1)
    faults.clear()
    assert _statuses(faults, 3) == [None] * 3


def test_a_limit_of_no_connections_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 connection"):
        Faults().limit_connections(0)


@pytest.mark.parametrize(
    ("status", "code"), [(401, "invalid_api_key"), (429, "rate_limit_exceeded"), (503, "server_is_overloaded")]
)
def test_a_refusal_is_worded_as_openai_words_it(status: int, code: str) -> None:
    faults = Faults()
    faults.refuse(status=status, retry_after_seconds=3)
    refusal = faults.take_refusal()
    assert refusal is not None
    assert refusal.error()["code"] == code
    assert refusal.error()["message"]
    assert refusal.retry_after_seconds == 3


def test_a_refusal_can_be_worded_otherwise() -> None:
    faults = Faults()
    faults.refuse(status=None, code="insufficient_quota", message="no money", close_code=4003)
    refusal = faults.take_refusal()
    assert refusal is not None
    assert (refusal.status, refusal.close_code) == (None, 4003)
    assert refusal.error()["message"] == "no money"
    assert refusal.close_reason() == "server_error.insufficient_quota"


def test_pending_faults_are_bounded() -> None:
    faults = Faults()
    for _ in range(MAX_PENDING):
        faults.refuse()
    with pytest.raises(ValueError, match="pending already"):
        faults.refuse()
    faults.end_response(times=10 * MAX_PENDING)
    assert len(faults.shared.endings.by_type[""]) == MAX_PENDING


def test_session_takes_its_own_faults_before_shared_ones() -> None:
    faults = Faults()
    one, other = (Driver(faults=SessionFaults(shared=faults.shared)) for _ in range(2))
    faults.ignore("session.update", session=_Faulty(one))
    assert one.update() == []
    assert kinds(one.update()) == ["session.updated"]
    faults.ignore("session.update", times=2)
    assert other.update() == []
    assert one.update() == []
    assert kinds(other.update()) == ["session.updated"]


def test_an_unknown_end_of_a_response_is_refused() -> None:
    with pytest.raises(ValueError, match="not 'splendid'"):
        Faults().end_response("splendid")


def test_clear_drops_pending_faults() -> None:
    faults = Faults()
    faults.refuse()
    faults.silence()
    faults.ignore()
    faults.end_response()
    faults.late_deltas(3)
    faults.clear()
    assert faults.take_refusal() is None
    assert not faults.take_silence()
    assert faults.shared == SessionFaults()


class _Faulty:
    """The part of a session that faults of its core use."""

    def __init__(self, driver: Driver) -> None:
        self.faults = driver.session.faults

    def drop(self) -> None:
        raise NotImplementedError

    stall = resume = expire = drop

    def start_speech(self, seconds: float | None) -> None:
        raise NotImplementedError

    def send_text(self, text: str) -> None:
        raise NotImplementedError

    def send_error(self, error: dict[str, Any], *, close: tuple[int, str] | None) -> None:
        raise NotImplementedError

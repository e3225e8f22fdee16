"""Hang-ups that a session orders: which session may order them, and which events they survive."""

from __future__ import annotations

from typing import Any

from common.link import Order, OrderAction
from tests.worker import api_events as api
from tests.worker.restored import agent, restoring, user
from tests.worker.session_driver import Did, Driver, only
from worker.actions import Answer
from worker.session import HANG_UP_ORDER
from worker.snapshot import Snapshot

HANG_UP = Order(HANG_UP_ORDER, OrderAction.HANG_UP.value)


def for_seconds(driver: Driver, seconds: float) -> list[Did]:
    """Let time pass in steps of the real clock."""
    did: list[Did] = []
    for _ in range(round(seconds / 0.2)):
        did += driver.tick(0.2)
    return did


def hang_up(driver: Driver) -> tuple[int, list[Order]]:
    """Send the calls API's hang-up; return the status and the orders that follow."""
    driver.session.command(1, "hang_up", {}, driver.now)
    did = driver.take()
    (answer,) = only(did, Answer)
    return answer.status, only(did, Order)


class TestStandby:
    def standing_by(self, **plan: Any) -> Driver:
        driver = restoring(agent("a", "Hello."), reason="rollover", standby=True, plan=plan)
        driver.go_live()
        return driver

    def go(self, driver: Driver) -> None:
        driver.session.go(Snapshot("rollover", items=[user("b", "Hi."), agent("c", "Yes?")]), driver.now)
        driver.take()
        driver.event(api.session_updated())

    def test_a_standby_orders_no_hang_up_for_silence(self) -> None:
        driver = self.standing_by(silence_hangup_seconds=10.0)
        assert not only(for_seconds(driver, 30.0), Order)

    def test_a_standby_orders_no_hang_up_at_max_call_seconds(self) -> None:
        driver = self.standing_by(max_call_seconds=10.0)
        assert not only(for_seconds(driver, 30.0), Order)

    def test_a_standby_that_connects_orders_no_hang_up(self) -> None:
        driver = restoring(agent("a", "Hello."), reason="rollover", standby=True, plan={"max_call_seconds": 10.0})
        driver.take()
        assert not only(driver.tick(11.0), Order)

    def test_a_standby_refuses_to_hang_up(self) -> None:
        assert hang_up(self.standing_by()) == (409, [])

    def test_silence_counts_from_when_a_standby_has_the_call(self) -> None:
        driver = self.standing_by(silence_hangup_seconds=10.0)
        for_seconds(driver, 30.0)
        self.go(driver)
        assert not only(for_seconds(driver, 9.0), Order)
        assert only(for_seconds(driver, 2.0), Order) == [HANG_UP]

    def test_a_former_standby_ends_the_call_at_max_call_seconds(self) -> None:
        driver = self.standing_by(max_call_seconds=20.0)
        for_seconds(driver, 30.0)
        self.go(driver)
        assert only(driver.tick(0.2), Order) == [HANG_UP]

    def test_a_former_standby_hangs_up_for_the_calls_api(self) -> None:
        driver = self.standing_by(silence_hangup_seconds=10.0)
        for_seconds(driver, 30.0)
        self.go(driver)
        assert hang_up(driver) == (200, [HANG_UP])

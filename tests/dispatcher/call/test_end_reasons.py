"""Why a call ended, for its record."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from common.link import wire
from common.link.wire import EndReason, TelephonyAction
from common.observe.call_outcome import OUTCOMES
from dispatcher.call.actions import Ended
from dispatcher.call.announcements import Announcements
from dispatcher.call.states import State
from tests.dispatcher.call_driver import CallDriver, sound


def hangs_up(driver: CallDriver) -> None:
    driver.live()
    driver.call.caller_closed(1000, driver.now)


def breaks_off(driver: CallDriver) -> None:
    driver.live()
    driver.call.caller_closed(1006, driver.now, may_return=False)


def stays_away(driver: CallDriver) -> None:
    driver.live()
    driver.call.caller_closed(1006, driver.now)
    driver.tick(driver.limits.reconnect_seconds + 1)


def command(driver: CallDriver, action: TelephonyAction, ok: bool, end_reason: str = "") -> None:
    """Have the worker command something, which avr-ami answers, and AVR Core close."""
    order = wire.TelephonyCommand("one", action, end_reason=end_reason)
    driver.live().record(order)
    driver.tick(1.0)
    driver.call.executed(order, ok, "", driver.now)
    driver.call.caller_closed(1000, driver.now)


def agent_hangs_up(driver: CallDriver) -> None:
    command(driver, TelephonyAction.HANG_UP, ok=True)


def agent_hangs_up_without_ami(driver: CallDriver) -> None:
    command(driver, TelephonyAction.HANG_UP, ok=False)


def nobody_speaks(driver: CallDriver) -> None:
    command(driver, TelephonyAction.HANG_UP, ok=True, end_reason=EndReason.CALLER_SILENT)


def a_newer_worker_hangs_up(driver: CallDriver) -> None:
    command(driver, TelephonyAction.HANG_UP, ok=True, end_reason="a reason of a later release")


def agent_transfers(driver: CallDriver) -> None:
    command(driver, TelephonyAction.TRANSFER, ok=True)


def is_transferred_before_avr_ami_answers(driver: CallDriver) -> None:
    driver.live().record(wire.TelephonyCommand("one", TelephonyAction.TRANSFER))
    driver.tick(1.0)
    driver.call.caller_closed(1000, driver.now)


def transfer_fails(driver: CallDriver) -> None:
    command(driver, TelephonyAction.TRANSFER, ok=False)


def api_hangs_up(driver: CallDriver) -> None:
    driver.init()
    driver.call.hang_up()
    driver.call.caller_closed(1000, driver.now)
    driver.call.executed(wire.TelephonyCommand("the calls API", TelephonyAction.HANG_UP), True, "", driver.now)


def api_hangs_up_twice(driver: CallDriver) -> None:
    driver.init()
    driver.call.hang_up()
    driver.call.hang_up()


def floods(driver: CallDriver) -> None:
    driver.live()
    driver.call.broke_protocol("too_fast", "too many messages")


def finds_no_room(driver: CallDriver) -> None:
    driver.init()
    while driver.state is not State.ENDED:
        driver.call.not_placed(1013, "no capacity", driver.now)
        driver.tick(1.0)


def finds_no_worker(driver: CallDriver) -> None:
    driver.init()
    while driver.state is not State.ENDED:
        driver.call.not_placed(1011, "no worker", driver.now)
        driver.tick(1.0)


def is_refused_upstream(driver: CallDriver) -> None:
    driver.live().record(wire.Ended("failed", "bad key", EndReason.UPSTREAM))


def fails_for_a_reason_of_completed_calls(driver: CallDriver) -> None:
    driver.live().record(wire.Ended("failed", "", EndReason.CALLER_HUNG_UP))


def completes_for_a_reason_of_failed_calls(driver: CallDriver) -> None:
    driver.live().record(wire.Ended("completed", "", EndReason.UPSTREAM))


def hangs_up_for_a_reason_of_failed_calls(driver: CallDriver) -> None:
    command(driver, TelephonyAction.HANG_UP, ok=True, end_reason=EndReason.UPSTREAM)


def says_nothing_right(driver: CallDriver) -> None:
    driver.call.broke_protocol("bad_json", "no JSON")


def finds_no_room_again(driver: CallDriver) -> None:
    driver.live().lose_worker()
    driver.now += driver.limits.recovery_seconds
    driver.call.not_placed(1013, "no capacity", driver.now)


def fails_without_a_reason(driver: CallDriver) -> None:
    driver.live().record(wire.Ended("failed", "of a release that gives none"))


def is_stopped(driver: CallDriver) -> None:
    driver.live()
    driver.call.stopped("the service is stopping")


def has_a_fault(driver: CallDriver) -> None:
    driver.live()
    driver.call.failed("internal error", driver.now)


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (hangs_up, EndReason.CALLER_HUNG_UP),
        (breaks_off, EndReason.CALLER_LOST),
        (stays_away, EndReason.CALLER_LOST),
        (agent_hangs_up, EndReason.AGENT_HUNG_UP),
        (agent_hangs_up_without_ami, EndReason.AGENT_HUNG_UP),
        (nobody_speaks, EndReason.CALLER_SILENT),
        (a_newer_worker_hangs_up, EndReason.AGENT_HUNG_UP),
        (agent_transfers, EndReason.TRANSFERRED),
        (is_transferred_before_avr_ami_answers, EndReason.TRANSFERRED),
        (transfer_fails, EndReason.CALLER_HUNG_UP),
        (api_hangs_up, EndReason.API_HUNG_UP),
        (api_hangs_up_twice, EndReason.API_HUNG_UP),
        (floods, EndReason.PROTOCOL),
        (finds_no_room, EndReason.NO_CAPACITY),
        (finds_no_worker, EndReason.NO_WORKER),
        (is_refused_upstream, EndReason.UPSTREAM),
        (fails_without_a_reason, EndReason.INTERNAL),
        (fails_for_a_reason_of_completed_calls, EndReason.INTERNAL),
        (completes_for_a_reason_of_failed_calls, EndReason.AGENT_HUNG_UP),
        (hangs_up_for_a_reason_of_failed_calls, EndReason.AGENT_HUNG_UP),
        (says_nothing_right, EndReason.PROTOCOL),
        (finds_no_room_again, EndReason.NO_CAPACITY),
        (is_stopped, EndReason.STOPPED),
        (has_a_fault, EndReason.INTERNAL),
    ],
)
def test_an_end_has_a_reason(end: Callable[[CallDriver], None], reason: EndReason, driver: CallDriver) -> None:
    end(driver)
    driver.take()
    assert driver.state is State.ENDED
    assert driver.call.end_reason is reason
    (ended,) = [action for action in driver.taken if isinstance(action, Ended)]
    assert ended.ending.value in {outcome.value for outcome in OUTCOMES[reason]}


def test_a_call_that_took_the_way_out_keeps_its_reason() -> None:
    driver = CallDriver(announcements=Announcements(sentence=sound(3200))).live()
    driver.record(wire.Ended("failed", "no quota", EndReason.UPSTREAM))
    assert driver.state is State.PARTING
    driver.call.caller_closed(1000, driver.now)
    assert driver.call.end_reason is EndReason.UPSTREAM


def test_a_call_of_a_dispatcher_that_died_was_lost(driver: CallDriver) -> None:
    assert driver.live().call.end_reason is EndReason.LOST


def test_an_ended_call_is_not_hung_up(driver: CallDriver) -> None:
    hangs_up(driver)
    driver.take()
    driver.call.hang_up()
    assert driver.take() == []


@pytest.mark.parametrize(("is_known", "seconds"), [(True, 10.0), (False, 5.0)])
def test_a_call_waits_less_long_where_no_worker_is_known(
    is_known: bool, seconds: float, driver: CallDriver
) -> None:
    driver.init()
    began = driver.now
    while driver.state is not State.ENDED:
        driver.tick(0.1)
        driver.call.not_placed(1011, "no worker", driver.now, is_known=is_known)
        driver.tick(0.1)
    assert driver.now - began == pytest.approx(seconds, abs=0.3)

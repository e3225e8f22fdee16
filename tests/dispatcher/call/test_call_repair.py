"""A call whose state machine had an illegal transition: it continues in another session, at most twice."""

from __future__ import annotations

import pytest

from common.link import wire
from dispatcher.call.actions import CloseCaller, Ended, Ending, LeaveChannel, Purpose, ToWorker
from dispatcher.call.sessions.sessions import MAX_REPAIRS
from dispatcher.call.states import State
from tests.dispatcher.call_driver import CallDriver, recover, state_of, to_worker

CLOSE = wire.Close("the call goes on in another session")


@pytest.mark.parametrize("state", [State.OPENING, State.CONNECTING, State.LIVE])
def test_a_session_is_closed_and_another_one_looked_for(driver: CallDriver, state: State) -> None:
    {State.OPENING: driver.opening, State.CONNECTING: driver.connecting, State.LIVE: driver.live}[state]()
    driver.call.repair(driver.now)
    assert driver.take() == [ToWorker(driver.assignment, CLOSE), LeaveChannel(driver.assignment), recover(2)]
    assert state_of(driver) is State.PLACING
    assert to_worker(driver.placed(epoch=2, pins=2))[-1] == wire.Resume("worker_lost")


def test_a_hand_over_is_given_up(driver: CallDriver) -> None:
    driver.live().record(wire.Move("drain", 20.0))
    driver.placed(worker="w-2", epoch=2)
    old, standby = driver.assignments
    driver.call.repair(driver.now)
    taken = driver.take()
    for each in (old, standby):
        assert ToWorker(each, CLOSE) in taken
        assert taken.index(ToWorker(each, CLOSE)) < taken.index(LeaveChannel(each))
    assert taken[-1] == recover(3)
    assert not driver.call.wants(Purpose.MOVE)


def test_a_call_that_looks_for_a_worker_goes_on_doing_so(driver: CallDriver) -> None:
    driver.init()
    driver.call.repair(driver.now)
    assert driver.take() == []
    assert state_of(driver) is State.PLACING


def test_a_call_is_given_up_after_too_many_repairs(driver: CallDriver) -> None:
    driver.live()
    for repairs in range(MAX_REPAIRS):
        driver.call.repair(driver.now)
        driver.placed(epoch=repairs + 2)
        driver.record(wire.Opened(32_000))
        driver.record(wire.Ready())
    driver.take()
    driver.call.repair(driver.now)
    taken = driver.take()
    assert CloseCaller(1011, "internal error") in taken
    assert taken[-1] == Ended(Ending.FAILED, "internal error")


def test_a_call_without_a_session_is_given_up(driver: CallDriver) -> None:
    driver.call.repair(driver.now)
    assert driver.take()[-1] == Ended(Ending.FAILED, "internal error")


def test_a_call_that_has_ended_is_not_repaired(driver: CallDriver) -> None:
    driver.live()
    driver.call.caller_closed(1000, driver.now)
    driver.take()
    driver.call.repair(driver.now)
    assert driver.take() == []

"""The machine of a hand-over; with the call around it: `test_call_move.py`."""

from __future__ import annotations

import pytest

from common.errors import IllegalTransition
from common.link import wire
from common.link.wire import Control
from dispatcher.call.action_queue import ActionQueue
from dispatcher.call.actions import LeaveChannel, Place, Purpose, ToWorker
from dispatcher.call.assignment import Assignment
from dispatcher.call.assignments import Assignments
from dispatcher.call.sessions.hand_over import TRANSITIONS, HandOver, HandOverEvent, HandOverState

NOW = 100.0
DRAIN = wire.Move("drain", 20.0)


class Rig:
    """The hand-over of a call at w-1."""

    def __init__(self) -> None:
        self.out = ActionQueue()
        self.assignments = Assignments()
        self.current = Assignment("w-1", 1)
        self.assignments.take(self.current)
        self.assignments.saw_epoch(1)
        self.hand_over = HandOver(self.out, self.assignments)
        self.standby = Assignment("w-2", 2)

    def says(self, record: Control) -> None:
        """Take a record of the standby's worker."""
        ((kind, _, payload),) = wire.decode(wire.encode(record, 1))
        self.hand_over.record(self.standby, kind, payload, NOW)

    def prepared(self) -> None:
        self.hand_over.begin(DRAIN, NOW)
        self.hand_over.placed(self.standby)
        self.says(wire.Opened(900))

    def take(self) -> list[object]:
        taken, self.out.actions = self.out.actions, []
        return list(taken)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_every_state_ends_with_the_session() -> None:
    assert set(TRANSITIONS) == set(HandOverState)
    assert all(events[HandOverEvent.SESSION_ENDED] is HandOverState.NONE for events in TRANSITIONS.values())


def test_a_hand_over_goes_through_its_states(rig: Rig) -> None:
    states, wants = [rig.hand_over.state], [rig.hand_over.wants_worker]
    rig.hand_over.begin(DRAIN, NOW)
    states.append(rig.hand_over.state)
    wants.append(rig.hand_over.wants_worker)
    rig.hand_over.placed(rig.standby)
    states.append(rig.hand_over.state)
    wants.append(rig.hand_over.wants_worker)
    assert wants == [False, True, False]
    rig.says(wire.Ready(standby=True))
    states.append(rig.hand_over.state)
    assert states == list(HandOverState)
    place, release = rig.take()
    assert place == Place(Purpose.MOVE, 2, frozenset({"w-1"}))
    assert release == ToWorker(rig.current, wire.Release(20.0))
    assert rig.hand_over.take_standby() is rig.standby
    assert rig.hand_over.state is HandOverState.NONE
    assert rig.hand_over.reason == ""


def test_a_standby_that_is_lost_is_replaced(rig: Rig) -> None:
    rig.prepared()
    rig.says(wire.Ready(standby=True))
    rig.take()
    rig.hand_over.leave_standby(NOW)
    assert rig.take() == [LeaveChannel(rig.standby), ToWorker(rig.current, wire.Release(20.0, revoked=True))]
    assert rig.hand_over.state is HandOverState.WANTED
    rig.hand_over.tick(NOW + 1.0)
    assert rig.take() == [Place(Purpose.MOVE, 2, frozenset({"w-1", "w-2"}))]


@pytest.mark.parametrize("state", [HandOverState.NONE, HandOverState.PREPARING, HandOverState.STANDING_BY])
def test_a_second_standby_is_illegal(rig: Rig, state: HandOverState) -> None:
    if state is not HandOverState.NONE:
        rig.prepared()
    if state is HandOverState.STANDING_BY:
        rig.says(wire.Ready(standby=True))
    with pytest.raises(IllegalTransition, match=f"hand-over cannot take the event placed in the state {state}"):
        rig.hand_over.placed(Assignment("w-3", 3))


def test_a_resting_session_is_closed_once(rig: Rig) -> None:
    rig.hand_over.rest(rig.current)
    rig.hand_over.close_resting()
    close = wire.Close("another session has the call")
    assert rig.take() == [ToWorker(rig.current, close), LeaveChannel(rig.current)]
    rig.hand_over.close_resting()
    assert rig.take() == []

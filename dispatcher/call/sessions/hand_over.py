"""The hand-over of a call from a session that works to another one: move, standby, release, rest.

    NONE ──MOVE──▶ WANTED ──placed──▶ PREPARING ──READY──▶ STANDING_BY
     ▲               ▲  │                 │                     │
     │               └──┼── standby lost ─┴─────────────────────┤
     └──────────────────┴── session lost, or the call ends ─────┘

A worker asks for a hand-over (MOVE). The session continues until another one stands by. It may then release the
call (RELEASE) at its next quiet moment. If the session ends in any other way, the standby takes the call. A worker
that released the call rests: it keeps the call's state until another session is up.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from common.link import wire
from common.link.wire import Kind, Reason, Refusal
from common.transitions import checked
from dispatcher.call.action_queue import ActionQueue
from dispatcher.call.actions import LeaveChannel, Place, Purpose
from dispatcher.call.assignment import Assignment, AssignmentState
from dispatcher.call.assignments import Assignments

# Delay before a move that found no worker is retried. The session continues meanwhile.
MOVE_AGAIN_SECONDS = 1.0


class HandOverState(StrEnum):
    """State of a call's hand-over."""

    NONE = "none"
    WANTED = "wanted"
    PREPARING = "preparing"
    STANDING_BY = "standing by"


class HandOverEvent(StrEnum):
    """Event that changes the state of a hand-over; names in capitals are records of a worker."""

    MOVE = "MOVE"
    PLACED = "placed"
    READY = "READY"
    STANDBY_LOST = "standby lost"
    SESSION_ENDED = "session ended"


TRANSITIONS: Final[dict[HandOverState, dict[HandOverEvent, HandOverState]]] = {
    HandOverState.NONE: {
        HandOverEvent.MOVE: HandOverState.WANTED,
        HandOverEvent.SESSION_ENDED: HandOverState.NONE,
    },
    HandOverState.WANTED: {
        HandOverEvent.MOVE: HandOverState.WANTED,
        HandOverEvent.PLACED: HandOverState.PREPARING,
        HandOverEvent.SESSION_ENDED: HandOverState.NONE,
    },
    HandOverState.PREPARING: {
        HandOverEvent.MOVE: HandOverState.PREPARING,
        HandOverEvent.READY: HandOverState.STANDING_BY,
        HandOverEvent.STANDBY_LOST: HandOverState.WANTED,
        HandOverEvent.SESSION_ENDED: HandOverState.NONE,
    },
    HandOverState.STANDING_BY: {
        HandOverEvent.MOVE: HandOverState.STANDING_BY,
        HandOverEvent.READY: HandOverState.STANDING_BY,
        HandOverEvent.STANDBY_LOST: HandOverState.WANTED,
        HandOverEvent.SESSION_ENDED: HandOverState.NONE,
    },
}


@dataclass(slots=True)
class _Move:
    """Request of a worker to move the call to another session.

    Attributes:
        reason: a `wire.Reason`.
        deadline_seconds: latest time of the move.
        next_try_seconds: time of the next search for a worker.
        excluded: workers that are not asked again for now.
    """

    reason: str
    deadline_seconds: float
    next_try_seconds: float
    excluded: set[str]


class HandOver:
    """Hand-over of one call.

    Attributes:
        state: state of the hand-over.
        standby: the assignment that takes the call next.
        resting: the assignment that released the call, and whose worker keeps the call's state for now.
    """

    def __init__(self, out: ActionQueue, assignments: Assignments) -> None:
        """Make a hand-over that no worker has asked for."""
        self.state = HandOverState.NONE
        self.standby: Assignment | None = None
        self.resting: Assignment | None = None
        self._move: _Move | None = None
        self._out = out
        self._assignments = assignments

    @property
    def wants_worker(self) -> bool:
        """Whether a worker for a standby session is being searched."""
        return self.state is HandOverState.WANTED and self._assignments.current is not None

    @property
    def reason(self) -> str:
        """Return why the call must move; empty: it need not."""
        return "" if self._move is None else self._move.reason

    def begin(self, wanted: wire.Move, now_seconds: float) -> None:
        """Search a worker for a standby session, because the session will end."""
        self._enter(HandOverEvent.MOVE)
        move = self._move
        if move is None:
            self._move = _Move(wanted.reason, now_seconds + wanted.seconds, now_seconds, set())
            self._place(self._move)
        elif wanted.reason == Reason.DRAIN and move.reason != Reason.DRAIN:
            move.reason = wanted.reason
            move.deadline_seconds = min(move.deadline_seconds, now_seconds + wanted.seconds)
            standby = self.standby
            if standby is not None and standby.worker_id == self._assignments.worker_id:
                # The standby is at the same worker, which wants to give up the call.
                self._out.record(standby, wire.Close("the worker stops"))
                self.leave_standby(now_seconds)
                self._place(move)

    def placed(self, assignment: Assignment) -> None:
        """Take the assignment of a standby."""
        self._enter(HandOverEvent.PLACED)
        self.standby = assignment

    def not_placed(self, now_seconds: float) -> None:
        """Try again later, because no worker was found."""
        if self._move is not None:
            self._move.next_try_seconds = now_seconds + MOVE_AGAIN_SECONDS
            self._move.excluded.clear()

    def tick(self, now_seconds: float) -> None:
        """Search a worker again, if that is due."""
        move = self._move
        if move is not None and self.standby is None and now_seconds >= move.next_try_seconds:
            self._place(move)

    def record(self, assignment: Assignment, kind: int, payload: memoryview, now_seconds: float) -> None:
        """Handle a record of the worker that stands by.

        Raises:
            LinkProtocolError: the record is malformed.
        """
        match kind:
            case Kind.OPENED:
                assignment.state = AssignmentState.TAKEN
                assignment.credit_bytes = wire.decode_control(wire.Opened, payload).credit_bytes
            case Kind.READY:
                self._enter(HandOverEvent.READY)
                assignment.state = AssignmentState.READY
                self._let_release(now_seconds)
            case Kind.CREDIT:
                assignment.credit_bytes += wire.decode_credit(payload)
            case Kind.MOVE:
                assignment.move = wire.decode_control(wire.Move, payload)
            case Kind.REFUSED:
                refused = wire.decode_control(wire.Refused, payload)
                self._assignments.saw_epoch(refused.epoch)
                self.leave_standby(now_seconds, may_be_asked_again=refused.reason == Refusal.STALE_EPOCH)
            case Kind.ENDED | Kind.RELEASED:
                self.leave_standby(now_seconds)
            case _:
                # A standby session may not end the call.
                pass

    def leave_standby(self, now_seconds: float, *, may_be_asked_again: bool = False) -> None:
        """Leave the assignment of the standby, and try another one; the session continues."""
        standby, self.standby = self.standby, None
        assert standby is not None
        self._enter(HandOverEvent.STANDBY_LOST)
        self._out.actions.append(LeaveChannel(standby))
        if standby.state is AssignmentState.READY:
            self._let_release(now_seconds, revoked=True)
        if self._move is not None:
            if not may_be_asked_again:
                self._move.excluded.add(standby.worker_id)
            self._move.next_try_seconds = now_seconds + MOVE_AGAIN_SECONDS

    def take_standby(self) -> Assignment | None:
        """End the hand-over, because the session has ended; return the standby's assignment, if there is one."""
        self._enter(HandOverEvent.SESSION_ENDED)
        standby, self.standby, self._move = self.standby, None, None
        return standby

    def rest(self, assignment: Assignment) -> None:
        """Keep an assignment that released the call until another session is up."""
        self.resting = assignment

    def leave_resting(self) -> None:
        """Leave the resting assignment, because its link is lost."""
        if self.resting is not None:
            self._out.actions.append(LeaveChannel(self.resting))
            self.resting = None

    def close_resting(self) -> None:
        """Close the resting session, because another one has the call."""
        if self.resting is not None:
            self._out.record(self.resting, wire.Close("another session has the call"))
            self.leave_resting()

    def all_assignments(self) -> list[Assignment]:
        """Return the assignments that the call has a channel for: the current one, the next one, the last one."""
        every = (self._assignments.current, self.standby, self.resting)
        return [assignment for assignment in every if assignment is not None]

    def forget_assignments(self) -> None:
        """Forget all assignments: they were left or closed."""
        self._assignments.current = None
        self.take_standby()
        self.resting = None

    def _enter(self, event: HandOverEvent) -> None:
        self.state = checked("hand-over", self.state, event, TRANSITIONS[self.state].get(event))

    def _place(self, move: _Move) -> None:
        move.next_try_seconds = float("inf")
        worker_id = self._assignments.worker_id
        stays = move.reason == Reason.ROLLOVER and worker_id not in move.excluded
        same_worker = worker_id if stays else ""
        excluded = move.excluded | ({worker_id} if move.reason == Reason.DRAIN else set())
        epoch = self._assignments.epoch + 1
        self._out.actions.append(Place(Purpose.MOVE, epoch, frozenset(excluded), same_worker))

    def _let_release(self, now_seconds: float, *, revoked: bool = False) -> None:
        """Let the session release the call, because another one stands by; `revoked`: withdraw that."""
        current = self._assignments.current
        if current is not None and self._move is not None:
            seconds = max(0.0, self._move.deadline_seconds - now_seconds)
            self._out.record(current, wire.Release(seconds, revoked))

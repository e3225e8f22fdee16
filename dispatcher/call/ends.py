"""The ends of a call, and its way out before it ends."""

from __future__ import annotations

from common.link import wire
from common.link.wire import EndReason
from dispatcher.call.action_queue import ActionQueue
from dispatcher.call.actions import (
    CallEnd,
    CloseCaller,
    Ended,
    Ending,
    LeaveChannel,
    Metric,
    Publish,
    SendError,
    Unpin,
)
from dispatcher.call.assignments import Assignments
from dispatcher.call.caller.presence import CallerPresence
from dispatcher.call.life import CallLife
from dispatcher.call.playback.reply_playback import ReplyPlayback
from dispatcher.call.sessions.hand_over import HandOver
from dispatcher.call.sessions.placing import Placing
from dispatcher.call.sessions.worker_side import WorkerSide
from dispatcher.call.states import Event, State
from dispatcher.call.telephony import Telephony
from dispatcher.call.way_out import WayOut


class CallEnds:
    """Ends of one call: at once, or by the way out. They close its sessions and release its pin.

    Attributes:
        reason: why the call ended. Before the end: the reason that counts if this dispatcher dies.
    """

    def __init__(
        self,
        out: ActionQueue,
        life: CallLife,
        *,
        assignments: Assignments,
        hand_over: HandOver,
        placing: Placing,
        presence: CallerPresence,
        playback: ReplyPlayback,
        telephony: Telephony,
        way_out: WayOut,
        worker_side: WorkerSide,
    ) -> None:
        """Take the parts of a call that end with the call."""
        self.reason = EndReason.LOST
        self._out = out
        self._life = life
        self._assignments = assignments
        self._hand_over = hand_over
        self._placing = placing
        self._presence = presence
        self._playback = playback
        self._telephony = telephony
        self._way_out = way_out
        self._worker_side = worker_side

    def fail(self, end: CallEnd, code: int, now_seconds: float) -> None:
        """Take the way out, or end the call if there is none."""
        if (
            not self._way_out.exists
            or self._life.state in (State.AWAITING_INIT, State.PARTING)
            or self._presence.is_away
            or self._telephony.is_over
        ):
            self.end(end, code)
            return
        if self._life.state is State.ENDED:
            return
        self._life.enter(Event.CANNOT_GO_ON)
        self._close_assignments(end.message)
        self._placing.again_seconds = None
        self._worker_side.audio.clear()
        self._assignments.hold_alone()
        self._way_out.begin(end, code, now_seconds)
        self._out.actions.append(Publish())
        self._playback.lost(now_seconds)
        self.go_on(now_seconds)

    def go_on(self, now_seconds: float) -> None:
        """Continue the way out, if the call takes it."""
        parting = self._way_out.go_on(now_seconds, is_busy=self._telephony.is_busy)
        if parting is not None:
            self.end(parting.why, parting.code)

    def end(self, end: CallEnd, code: int) -> None:
        """Tell AVR Core why the call ends, close its connection, and end the call."""
        if self._life.state is State.ENDED:
            return
        if end.message:
            self._out.actions.append(SendError(end.message))
        self._out.actions.append(CloseCaller(code, end.message))
        self.finish(end)

    def finish(self, end: CallEnd) -> None:
        """End the call without closing its connection."""
        if self._life.state is State.ENDED:
            return
        self._life.enter(Event.END)
        # If another dispatcher has the caller now, it may have attached to the session, which stays open.
        self._close_assignments(end.message, keep=end.ending is Ending.MOVED)
        if self._assignments.epoch and end.ending is not Ending.MOVED:
            self._out.actions.append(Unpin(self._assignments.epoch))
        self._worker_side.audio.clear()
        end = self._way_out.ended(end)
        self.reason = end.reason
        self._out.actions.append(Ended(end.ending, end.message))

    def protocol_broken(self, reason: str, message: str) -> None:
        """Count bad input of AVR Core under `reason`, and end the call."""
        if self._life.state is State.ENDED:
            return
        self._out.report(Metric.BAD_INPUT, label=reason)
        ending = Ending.REJECTED if not self._assignments.pins else Ending.FAILED
        self.end(CallEnd(ending, EndReason.PROTOCOL, message), 1008)

    def superseded(self) -> None:
        """End the call here, because a connection to another dispatcher has the same uuid, and so the call."""
        message = "another connection with the same uuid has taken this call over"
        self.end(CallEnd(Ending.MOVED, EndReason.LOST, message), 1008)

    def leave(self, reason: str) -> None:
        """Leave the call at its worker, for another dispatcher to which the caller reconnects."""
        self._life.enter(Event.END)
        if self._hand_over.standby is not None:
            self._out.record(self._hand_over.standby, wire.Close(reason))
        self._out.actions += [LeaveChannel(assignment) for assignment in self._hand_over.all_assignments()]
        self._hand_over.forget_assignments()
        self._worker_side.audio.clear()
        self._out.actions.append(Ended(Ending.MOVED, reason))

    def _close_assignments(self, reason: str, *, keep: bool = False) -> None:
        """Close the sessions; `keep`: leave the session that has the call to another dispatcher."""
        for assignment in self._hand_over.all_assignments():
            is_kept = keep and assignment is not self._hand_over.standby
            self._out.record(assignment, wire.Close(reason, is_kept))
            self._out.actions.append(LeaveChannel(assignment))
        self._hand_over.forget_assignments()

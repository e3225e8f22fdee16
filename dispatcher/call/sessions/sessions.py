"""The sessions of a call at its workers: search, opening, loss, and recovery in another session."""

from __future__ import annotations

from common.link import wire
from common.link.wire import EndReason, Kind, Outcome, Reason, Refusal
from dispatcher.call.action_queue import ActionQueue
from dispatcher.call.actions import CallEnd, Ending, LeaveChannel, Metric, Place, Publish, Purpose
from dispatcher.call.assignment import Assignment, AssignmentState
from dispatcher.call.assignments import Assignments
from dispatcher.call.ends import CallEnds
from dispatcher.call.life import CallLife
from dispatcher.call.limits import CallLimits
from dispatcher.call.memory import CallMemory
from dispatcher.call.playback.filler_playback import FillerPlayback
from dispatcher.call.playback.reply_playback import ReplyPlayback
from dispatcher.call.sessions.hand_over import HandOver
from dispatcher.call.sessions.placing import Placing
from dispatcher.call.sessions.recovery import Recovery
from dispatcher.call.sessions.worker_side import WorkerSide
from dispatcher.call.states import Event, State

# Maximum illegal transitions after which a call continues in another session; the next one ends it.
MAX_REPAIRS = 2


class Sessions:
    """Sessions of one call. `_recover` is the only way to another session, for each kind of loss."""

    def __init__(
        self,
        out: ActionQueue,
        life: CallLife,
        limits: CallLimits,
        ends: CallEnds,
        *,
        assignments: Assignments,
        hand_over: HandOver,
        recovery: Recovery,
        placing: Placing,
        playback: ReplyPlayback,
        filler_playback: FillerPlayback,
        worker_side: WorkerSide,
    ) -> None:
        """Take the parts of a call that its sessions need."""
        self._out = out
        self._life = life
        self._limits = limits
        self._ends = ends
        self._assignments = assignments
        self._hand_over = hand_over
        self._recovery = recovery
        self._placing = placing
        self._playback = playback
        self._filler_playback = filler_playback
        self._worker_side = worker_side
        self._repairs = 0

    # Events from placement

    def begin(self, now_seconds: float) -> None:
        """Search the first worker, because `init` has come. The greeting is owed from now on."""
        self._placing.init_seconds = self._playback.init_seconds = now_seconds
        self._filler_playback.owed(now_seconds)
        self.place()

    def place(self, epoch: int = 1) -> None:
        """Ask for a worker, at this epoch at least."""
        purpose = Purpose.RECOVER if self._recovery.is_on else Purpose.BEGIN
        epoch = max(epoch, self._assignments.epoch + 1)
        self._out.actions.append(Place(purpose, epoch, frozenset(self._placing.excluded)))

    def wants(self, purpose: Purpose) -> bool:
        """Return whether a worker is still wanted for this."""
        if purpose is Purpose.MOVE:
            return self._hand_over.wants_worker
        return self._life.state is State.PLACING and self._placing.again_seconds is None

    def placed(self, assignment: Assignment, now_seconds: float) -> None:
        """Ask the worker of a new assignment, to which there is a channel, to take the call."""
        if self._hand_over.wants_worker:
            self._hand_over.placed(assignment)
            self._ask(assignment, self._hand_over.reason, now_seconds)
            self._worker_side.give_memory(assignment, standby=True)
            return
        self._life.enter(Event.PLACED)
        self._assignments.pins = assignment.pins
        self._worker_side.identity.is_older(assignment.age_seconds, now_seconds)
        self._assignments.take(assignment)
        attach = assignment.attach
        self._ask(assignment, "" if attach else self._recovery.reason, now_seconds, attach=attach)
        if assignment.reason:
            self._worker_side.give_memory(assignment)

    def restored(self, memory: CallMemory, now_seconds: float) -> None:
        """Continue from the memory that another dispatcher wrote to Redis: it died, like the call's worker."""
        self._worker_side.restored(memory)
        self._recovery.restored(now_seconds)

    def not_placed(self, code: int, message: str, now_seconds: float, *, is_known: bool = True) -> None:
        """Try again within a bound, or fail the call.

        Args:
            code: 1013 if no worker can take the call, 1011 if none could be asked.
            message: text for AVR Core.
            now_seconds: the time.
            is_known: False if Redis is unavailable and no worker is known.
        """
        if self._life.state is not State.PLACING:
            self._hand_over.not_placed(now_seconds)
        elif not self._placing.try_again(code, now_seconds, is_known=is_known):
            ending = Ending.REJECTED if code == 1013 and not self._recovery.is_on else Ending.FAILED
            reason = EndReason.NO_CAPACITY if code == 1013 else EndReason.NO_WORKER
            self._ends.fail(CallEnd(ending, reason, message), code, now_seconds)

    # Events from the link

    def record(self, assignment: Assignment, kind: int, payload: memoryview, now_seconds: float) -> None:
        """Handle a record of an assignment's worker.

        Raises:
            LinkProtocolError: the record is malformed, or is invalid in this state.
        """
        if self._life.state is State.ENDED:
            return
        if assignment is self._assignments.current:
            connects = self._life.state is State.CONNECTING
            if not self._worker_side.record(assignment, kind, payload, now_seconds, connects=connects):
                self._session_record(assignment, kind, payload, now_seconds)
        elif assignment is self._hand_over.standby:
            self._hand_over.record(assignment, kind, payload, now_seconds)

    def link_broke(self, assignment: Assignment) -> None:
        """Note that the link to an assignment's worker broke, and is being replaced."""
        if assignment is self._hand_over.resting:
            self._hand_over.leave_resting()

    def channel_full(self, assignment: Assignment, now_seconds: float) -> None:
        """Fail the call, because the worker acknowledges no records."""
        if assignment is self._assignments.current or assignment is self._hand_over.standby:
            self._fail(EndReason.NO_WORKER, "the call's worker acknowledges nothing", now_seconds)

    def worker_lost(self, assignment: Assignment, now_seconds: float) -> None:
        """Recover the call, because the worker of an assignment is lost."""
        if assignment is self._hand_over.resting:
            self._hand_over.leave_resting()
        elif assignment is self._hand_over.standby:
            self._hand_over.leave_standby(now_seconds)
        elif assignment is self._assignments.current:
            self._recover(Reason.WORKER_LOST, now_seconds, excluded=assignment.worker_id)

    def repair(self, now_seconds: float) -> None:
        """Continue in another session after an illegal transition, as if the worker were lost.

        A call that searches a worker continues its search, up to its bound. A call without a session to recover,
        or with too many repairs, fails.
        """
        self._repairs += 1
        assignment = self._assignments.current
        if self._repairs <= MAX_REPAIRS and self._life.state is State.PLACING:
            return
        if self._repairs > MAX_REPAIRS or assignment is None:
            self._fail(EndReason.INTERNAL, "internal error", now_seconds)
            return
        # The worker lives, so its session is closed.
        for each in self._hand_over.all_assignments():
            self._out.record(each, wire.Close("the call goes on in another session"))
            if each is not assignment:
                self._out.actions.append(LeaveChannel(each))
        self._hand_over.take_standby()
        self._hand_over.resting = None
        self._recover(Reason.WORKER_LOST, now_seconds)

    def tick(self, now_seconds: float) -> None:
        """Check the time limits."""
        if self._life.state is State.LIVE:
            self._recovery.lives(self._limits.unstable_seconds, now_seconds)
        if self._life.state in (State.PLACING, State.OPENING):
            seconds = self._placing.late_after(now_seconds)
            if seconds is not None:
                self._fail(EndReason.NO_WORKER, f"no worker took the call within {seconds:g} s", now_seconds)
                return
        if self._placing.is_due(now_seconds):
            self._life.enter(Event.PLACE_AGAIN)
            self.place()
        self._hand_over.tick(now_seconds)

    # The session that has the call

    def _session_record(self, assignment: Assignment, kind: int, payload: memoryview, now_seconds: float) -> None:
        """Handle a record about the session itself; kinds of a newer release are skipped."""
        match kind:
            case Kind.OPENED:
                self._opened(assignment, wire.decode_control(wire.Opened, payload), now_seconds)
            case Kind.REFUSED:
                self._refused(wire.decode_control(wire.Refused, payload), now_seconds)
            case Kind.READY:
                # A former standby sends READY again when it has the call.
                if not wire.decode_control(wire.Ready, payload).standby:
                    self._ready(assignment, now_seconds)
            case Kind.MOVE:
                self._hand_over.begin(wire.decode_control(wire.Move, payload), now_seconds)
            case Kind.RELEASED:
                self._released(assignment, wire.decode_control(wire.Released, payload), now_seconds)
            case Kind.CLOSE:
                self._ends.superseded()
            case Kind.ENDED:
                self._worker_ended(wire.decode_control(wire.Ended, payload), now_seconds)
            case _:
                pass

    def _ask(self, assignment: Assignment, reason: str, now_seconds: float, *, attach: bool = False) -> None:
        """Ask the worker of an assignment to take the call, for this reason."""
        self._assignments.saw_epoch(assignment.epoch)
        assignment.reason = reason
        delay_seconds, waited_seconds = self._recovery.delay(reason, now_seconds)
        self._worker_side.open(
            assignment, now_seconds, delay_seconds=delay_seconds, waited_seconds=waited_seconds, attach=attach
        )

    def _opened(self, assignment: Assignment, opened: wire.Opened, now_seconds: float) -> None:
        self._life.enter(Event.OPENED)
        self._out.actions.append(Publish())
        self._count_repin(assignment)
        self._worker_side.opened(assignment, opened, now_seconds)

    def _ready(self, assignment: Assignment, now_seconds: float) -> None:
        self._life.enter(Event.READY)
        self._placing.ready()
        self._worker_side.ready(assignment, now_seconds)
        self._hand_over.close_resting()
        recovered = self._recovery.ready(now_seconds)
        if recovered is not None:
            reason, seconds = recovered
            self._out.report(Metric.RECOVERY_SECONDS, seconds, reason)
        if assignment.move is not None:
            self._hand_over.begin(assignment.move, now_seconds)

    def _refused(self, refused: wire.Refused, now_seconds: float) -> None:
        if refused.reason == Refusal.UNKNOWN:
            # The worker has no session of this call any more.
            self._recover(Reason.WORKER_LOST, now_seconds)
            return
        self._life.enter(Event.REFUSED)
        self._leave_assignment()
        self._assignments.saw_epoch(refused.epoch)
        if self._placing.refused(self._assignments.worker_id, refused.reason):
            refusals = self._placing.refusals
            message = f"{refusals} workers refused the call, the last because it is {refused.reason}"
            self._fail(EndReason.NO_WORKER, message, now_seconds)
        else:
            self.place()

    def _worker_ended(self, ended: wire.Ended, now_seconds: float) -> None:
        self._leave_assignment()
        if ended.outcome == Outcome.COMPLETED:
            reason = wire.end_reason(ended.end_reason, EndReason.AGENT_HUNG_UP)
            self._ends.end(CallEnd(Ending.COMPLETED, reason, ""), 1000)
        else:
            reason = wire.end_reason(ended.end_reason, EndReason.INTERNAL)
            self._fail(reason, ended.message or "the call failed", now_seconds)

    def _fail(self, reason: EndReason, message: str, now_seconds: float) -> None:
        self._ends.fail(CallEnd(Ending.FAILED, reason, message), 1011, now_seconds)

    def _released(self, assignment: Assignment, released: wire.Released, now_seconds: float) -> None:
        """Continue in another session, because the worker has released the call."""
        self._assignments.current = None
        if self._hand_over.resting is None and (
            assignment.state is AssignmentState.READY or assignment.is_attached
        ):
            self._hand_over.rest(assignment)
        else:
            self._out.record(assignment, wire.Close("another session gets the call"))
            self._out.actions.append(LeaveChannel(assignment))
        if released.reason == Reason.DROPPED:
            self._recovery.dropped(now_seconds)
            self._recover(Reason.DROPPED, now_seconds, same_worker=self._assignments.worker_id)
        else:
            self._recover(released.reason, now_seconds, excluded=self._assignments.worker_id)

    def _count_repin(self, assignment: Assignment) -> None:
        """Count a worker that has taken the call; workers that refused or stood by do not count."""
        lost = self._recovery.reason == Reason.WORKER_LOST
        reason = self._recovery.reason if lost else assignment.reason
        if assignment.reason and reason in (Reason.WORKER_LOST, Reason.DRAIN):
            self._out.report(Metric.REPIN, label=reason)

    def _recover(self, reason: str, now_seconds: float, *, excluded: str = "", same_worker: str = "") -> None:
        """Continue in another session, because the present one is lost."""
        self._leave_assignment()
        self._worker_side.mute.session_lost(now_seconds)
        self._filler_playback.session_lost(now_seconds, is_replying=self._worker_side.memory.is_replying)
        self._recovery.began(reason, now_seconds)
        self._playback.lost(now_seconds)
        standby = self._hand_over.take_standby()
        if standby is not None:
            # The standby has the memory already, except for the newest changes.
            is_opening = standby.state is AssignmentState.OPENING
            self._life.enter(Event.STANDBY_OPENS if is_opening else Event.STANDBY_CONNECTS)
            self._out.actions.append(Publish())
            self._assignments.pins += standby.worker_id != self._assignments.worker_id
            self._assignments.take(standby)
            if not is_opening:
                self._count_repin(standby)
            self._worker_side.give_memory(standby)
            return
        self._life.enter(Event.SESSION_LOST)
        if excluded:
            self._placing.excluded.add(excluded)
        epoch = self._assignments.epoch + 1
        self._out.actions.append(Place(Purpose.RECOVER, epoch, frozenset(self._placing.excluded), same_worker))

    def _leave_assignment(self) -> None:
        if self._assignments.current is not None:
            self._out.actions.append(LeaveChannel(self._assignments.current))
            self._assignments.current = None

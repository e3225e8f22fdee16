"""A call in the dispatcher, Sans-I/O: it takes events and the time, and returns actions.

The states are in `states.py`. The call owns the caller's audio, the replies with the playout clock, and the memory
of the conversation. They survive a worker. A session ends when its worker or its Realtime connection is lost. It
also ends when its worker stops, or at its time limit. In each case another assignment at the next epoch gets the
memory, and continues the call (`sessions.py`). A session that still works releases the call when another one
stands by (`hand_over.py`). Messages of AVR Core come in by `caller_messages.py`.

If no worker can continue the call, the call takes the way out (`way_out.py`), or ends if there is none.
"""

from __future__ import annotations

from websockets.typing import BytesLike

from common.link import wire
from common.link.wire import EndReason
from common.observe.metrics import FallbackOutcome
from common.settings.tenants import NO_TENANTS, Tenants
from dispatcher.call.action_queue import ActionQueue
from dispatcher.call.actions import (
    Action,
    CallEnd,
    Ended,
    Ending,
    Purpose,
)
from dispatcher.call.announcements import SILENT, Announcements
from dispatcher.call.assignment import Assignment, AssignmentState
from dispatcher.call.assignments import Assignments
from dispatcher.call.caller.caller_audio import CallerAudio
from dispatcher.call.caller.caller_mute import CallerMute
from dispatcher.call.caller.caller_side import CallerSide
from dispatcher.call.caller.line_quality import LineQuality
from dispatcher.call.caller_messages import CallerMessages
from dispatcher.call.ends import CallEnds
from dispatcher.call.identity import CallIdentity
from dispatcher.call.life import CallLife
from dispatcher.call.limits import DEFAULT_LIMITS, CallLimits
from dispatcher.call.memory import CallMemory
from dispatcher.call.playback.filler import Filler
from dispatcher.call.playback.filler_playback import FillerPlayback
from dispatcher.call.playback.reply_playback import ReplyPlayback
from dispatcher.call.sessions.hand_over import HandOver
from dispatcher.call.sessions.placing import Placing
from dispatcher.call.sessions.recovery import Recovery
from dispatcher.call.sessions.sessions import Sessions
from dispatcher.call.sessions.worker_side import WorkerSide
from dispatcher.call.states import Event, State
from dispatcher.call.telephony import Telephony
from dispatcher.call.telephony_results import TelephonyResults
from dispatcher.call.way_out import WayOut
from dispatcher.recording.timeline import Timeline

# Maximum time for pending commands of the agent, if the caller did not reconnect.
PROMISE_SECONDS = 15.0
CLEAN_CLOSES = (1000, 1001, 1005)


class Call:
    """One call. Methods are events; actions collect in `actions`, which the shell takes and clears.

    All times are seconds of one monotonic clock.

    Attributes:
        identity: uuid and metadata of the call.
        assignments: the worker that has the call, and former ones.
        hand_over: hand-over to another session, while the present one works.
        recovery: recovery of the call after it has lost its session.
    """

    def __init__(
        self,
        metadata: dict[str, str],
        now_seconds: float,
        limits: CallLimits = DEFAULT_LIMITS,
        announcements: Announcements = SILENT,
        timeline: Timeline | None = None,
        *,
        tenants: Tenants = NO_TENANTS,
    ) -> None:
        """Make a call of a connection that has not sent `init` yet; `timeline` is that of its recording."""
        self._life = CallLife()
        self.identity = CallIdentity(metadata, now_seconds, tenants)
        self.assignments = Assignments()
        self.recovery = Recovery(now_seconds)
        self._out = ActionQueue()
        self.hand_over = HandOver(self._out, self.assignments)
        self._limits = limits
        self._placing = Placing(limits, self.recovery, now_seconds)
        self._caller = CallerSide(limits, now_seconds, LineQuality(self._out))
        self._mute = CallerMute(None if timeline is None else timeline.mute_caller)
        self._playback = ReplyPlayback(self._out, CallMemory(), self._caller.presence, now_seconds, timeline)
        self._telephony = Telephony(self._out, self._playback, limits.order_seconds)
        filler = Filler(announcements.filler, announcements.filler_after_seconds)
        self._filler_playback = FillerPlayback(self._out, self._playback, filler)
        self._way_out = WayOut(self._out, self._playback, announcements, limits.order_seconds)
        self._worker_side = WorkerSide(
            self._out,
            self.identity,
            CallerAudio(limits.waiting_bytes),
            self._mute,
            playback=self._playback,
            commands=self._telephony.commands,
            filler=filler,
            line=self._caller.line,
        )
        self._ends = CallEnds(
            self._out,
            self._life,
            assignments=self.assignments,
            hand_over=self.hand_over,
            placing=self._placing,
            presence=self._caller.presence,
            playback=self._playback,
            telephony=self._telephony,
            way_out=self._way_out,
            worker_side=self._worker_side,
        )
        self._sessions = Sessions(
            self._out,
            self._life,
            limits,
            self._ends,
            assignments=self.assignments,
            hand_over=self.hand_over,
            recovery=self.recovery,
            placing=self._placing,
            playback=self._playback,
            filler_playback=self._filler_playback,
            worker_side=self._worker_side,
        )
        self._messages = CallerMessages(
            self._out,
            self._life,
            self._ends,
            assignments=self.assignments,
            caller=self._caller,
            identity=self.identity,
            sessions=self._sessions,
            timeline=timeline,
            worker_side=self._worker_side,
        )
        self._results = TelephonyResults(
            self._out,
            self._life,
            self._ends,
            assignments=self.assignments,
            presence=self._caller.presence,
            telephony=self._telephony,
            way_out=self._way_out,
        )

    @property
    def actions(self) -> list[Action]:
        """Actions that the shell has not taken, in order; the shell puts an empty list in their place."""
        return self._out.actions

    @actions.setter
    def actions(self, actions: list[Action]) -> None:
        self._out.actions = actions

    @property
    def state(self) -> State:
        """The state of the call: see `states.py`."""
        return self._life.state

    @property
    def uuid(self) -> str:
        """The call's uuid; empty before `init`."""
        return self.identity.uuid

    @property
    def memory(self) -> CallMemory:
        """The memory of the conversation."""
        return self._worker_side.memory

    @property
    def end_reason(self) -> EndReason:
        """Why the call ended. Before the end: the reason that counts if this dispatcher dies."""
        return self._ends.reason

    @property
    def refused_for_capacity(self) -> bool:
        """Whether the last worker that refused the call had no room."""
        return self._placing.refused_for_capacity

    @property
    def paused(self) -> bool:
        """Whether messages for AVR Core are held, because it does not read, or is disconnected."""
        return self._playback.is_held

    @property
    def is_away(self) -> bool:
        """Whether the caller's connection is lost, and the call waits for another one."""
        return self._caller.presence.is_away

    @property
    def is_caller_muted(self) -> bool:
        """Whether a tool collects keys, so that recordings must have silence in place of the caller's audio."""
        return self._mute.is_on

    @property
    def is_held(self) -> bool:
        """Whether a worker has the call or will take it over, or the call takes the way out."""
        if self.state is State.PARTING:
            return True
        return self.state is not State.ENDED and (self.assignments.current is not None or self.recovery.is_on)

    # Events from the caller

    def message(self, data: BytesLike, now_seconds: float) -> None:
        """Take a message of AVR Core, from a text frame or a binary one."""
        self._messages.message(data, now_seconds)

    def began(self, uuid: str, now_seconds: float) -> None:
        """Begin a call of the older protocol, whose connection has sent the uuid."""
        self._messages.began(uuid, now_seconds)

    def audio(self, pcm: bytes, now_seconds: float, *, messages: int = 0) -> None:
        """Take audio of the caller: PCM16 at 8 kHz, whole samples.

        Args:
            pcm: audio of all messages that were read together.
            now_seconds: the time.
            messages: number of these messages; 0 in the older protocol, which has no messages.
        """
        self._messages.audio(pcm, now_seconds, messages)

    def broke_protocol(self, reason: str, message: str) -> None:
        """End this call, because AVR Core broke the protocol."""
        self._ends.protocol_broken(reason, message)

    def caller_closed(self, code: int, now_seconds: float, *, may_return: bool = True) -> None:
        """End the call after a clean close of the caller's connection; after a loss, wait for another one."""
        reason = f"the caller's connection closed with {code}"
        may_return = may_return and self._limits.reconnect_seconds > 0
        if self.state is State.AWAITING_INIT:
            self._ends.finish(CallEnd(Ending.REJECTED, EndReason.PROTOCOL, f"{reason} before init"))
        elif code in CLEAN_CLOSES or self._telephony.is_over:
            self._ends.finish(CallEnd(Ending.COMPLETED, self._telephony.end_reason, reason))
        elif self.state is State.ENDED:
            return
        elif not may_return and not self._telephony.commands.is_busy:
            self._ends.finish(CallEnd(Ending.FAILED, EndReason.CALLER_LOST, reason))
        else:
            self._caller.lost(reason, now_seconds, may_return=may_return)
            self._playback.hold()

    def caller_back(self, now_seconds: float) -> None:
        """Continue with another connection of the caller."""
        if self.state is not State.ENDED:
            self._caller.back(now_seconds)
            self._playback.back(self.assignments.current, now_seconds)

    def caller_paused(self, now_seconds: float) -> None:
        """Hold messages for AVR Core, because it does not read."""
        self._playback.hold()
        self._caller.paused(now_seconds)

    def caller_writable(self, now_seconds: float) -> None:
        """Send held messages, because AVR Core reads again."""
        if self.state is not State.ENDED:
            self._caller.reads()
            self._playback.writable(self.assignments.current, now_seconds)

    def superseded(self) -> None:
        """End the call here, because a connection to another dispatcher has the same uuid, and so the call."""
        self._ends.superseded()

    def absorbed(self) -> None:
        """End the call, because an earlier call with the same uuid has taken this call's connection."""
        self._life.enter(Event.END)
        self._out.actions.append(Ended(Ending.MOVED, "an earlier call with this uuid continues"))

    def stopped(self, reason: str) -> None:
        """End the call, because this process ends and cannot wait longer for the end of the call."""
        self._ends.end(CallEnd(Ending.FAILED, EndReason.STOPPED, reason), 1011)

    def failed(self, reason: str, now_seconds: float) -> None:
        """Fail the call, because of a fault of this process."""
        self._ends.fail(CallEnd(Ending.FAILED, EndReason.INTERNAL, reason), 1011, now_seconds)

    def hang_up(self) -> None:
        """Hang up a call that no worker has, for the calls API: on Asterisk, as a worker would request it."""
        telephony = self._telephony
        if self.state is State.ENDED:
            return
        if telephony.is_told_to_hang_up or telephony.is_over or self._way_out.is_final:
            self._ends.end(CallEnd(Ending.COMPLETED, EndReason.API_HUNG_UP, ""), 1000)
            return
        if self._way_out.parting is not None:
            self._way_out.parting.is_hung_up = True
        telephony.hang_up()

    @property
    def may_be_left(self) -> bool:
        """Whether a worker has the call, and keeps it for a caller who reconnects."""
        assignment = self.assignments.current
        return (
            assignment is not None
            and assignment.state is not AssignmentState.OPENING
            and self._telephony.hung_up_seconds is None
        )

    def left(self, reason: str) -> None:
        """Leave the call at its worker, because this process ends. The caller reconnects to another dispatcher."""
        self._ends.leave(reason)

    # Events from placement

    def place(self, epoch: int = 1) -> None:
        """Ask for a worker, at this epoch at least."""
        self._sessions.place(epoch)

    def wants(self, purpose: Purpose) -> bool:
        """Return whether a worker is still wanted for this."""
        return self._sessions.wants(purpose)

    def placed(self, assignment: Assignment, now_seconds: float) -> None:
        """Ask the worker of a new assignment, to which there is a channel, to take the call."""
        self._sessions.placed(assignment, now_seconds)

    def restored(self, memory: CallMemory, now_seconds: float) -> None:
        """Continue from the memory that another dispatcher wrote to Redis: it died, like the call's worker."""
        self._sessions.restored(memory, now_seconds)

    def not_placed(self, code: int, message: str, now_seconds: float, *, is_known: bool = True) -> None:
        """Try again within a bound, or fail the call: see `Sessions.not_placed`."""
        self._sessions.not_placed(code, message, now_seconds, is_known=is_known)

    # Events from the link

    def record(self, assignment: Assignment, kind: int, payload: memoryview, now_seconds: float) -> None:
        """Handle a record of an assignment's worker.

        Raises:
            LinkProtocolError: the record is malformed, or is invalid in this state.
        """
        self._sessions.record(assignment, kind, payload, now_seconds)

    def link_broke(self, assignment: Assignment) -> None:
        """Note that the link to an assignment's worker broke, and is being replaced."""
        self._sessions.link_broke(assignment)

    def channel_full(self, assignment: Assignment, now_seconds: float) -> None:
        """Fail the call, because the worker acknowledges no records."""
        self._sessions.channel_full(assignment, now_seconds)

    def worker_lost(self, assignment: Assignment, now_seconds: float) -> None:
        """Recover the call, because the link to an assignment's worker is lost, and could not be replaced."""
        self._sessions.worker_lost(assignment, now_seconds)

    def repair(self, now_seconds: float) -> None:
        """Continue in another session after an illegal transition: see `Sessions.repair`."""
        self._sessions.repair(now_seconds)

    # Time

    def tick(self, now_seconds: float) -> None:
        """Check the time limits; to be called every 200 ms."""
        if self._mute.look(now_seconds):
            self._worker_side.confirm_collection(self.assignments.current)
        if self.state is not State.ENDED:
            self._playback.report(self.assignments.current, now_seconds)
            self._telephony.execute_due(self.assignments.current, now_seconds)
            self._sessions.tick(now_seconds)
            self._ends.go_on(now_seconds)
            if self._filler_playback.is_on:
                self._fill(now_seconds)
        if self.state is not State.ENDED:
            self._look_after_caller(now_seconds)

    def wake(self, now_seconds: float) -> None:
        """Play the next piece of filler, because the time of a `Wake` has come."""
        self._filler_playback.woke()
        self._fill(now_seconds)

    def _look_after_caller(self, now_seconds: float) -> None:
        hung_up_seconds = self._telephony.hung_up_seconds
        if self.is_away:
            late_seconds = self._caller.late_seconds(now_seconds)
            if late_seconds >= 0 and not (
                late_seconds < PROMISE_SECONDS and self._telephony.execute_promised(now_seconds)
            ):
                self._ends.finish(CallEnd(Ending.FAILED, EndReason.CALLER_LOST, self._caller.away_reason))
        elif hung_up_seconds is not None and now_seconds - hung_up_seconds >= self._limits.hung_up_seconds:
            self._ends.end(CallEnd(Ending.COMPLETED, self._telephony.end_reason, ""), 1000)
        else:
            breach = self._caller.breach(now_seconds, awaits_init=self.state is State.AWAITING_INIT)
            if breach is not None:
                self.broke_protocol(breach.reason, breach.message)

    # Events from avr-ami

    def executed(self, command: wire.TelephonyCommand, ok: bool, message: str, now_seconds: float) -> None:
        """Take the result of avr-ami for a command."""
        self._results.executed(command, ok, message, now_seconds)

    def transferred_away(self, outcome: FallbackOutcome, now_seconds: float) -> None:
        """Take the outcome of the transfer of a call on its way out."""
        self._results.transferred_away(outcome, now_seconds)

    def _fill(self, now_seconds: float) -> None:
        is_over = self.state in (State.PARTING, State.ENDED) or self._telephony.hung_up_seconds is not None
        self._filler_playback.play(now_seconds, is_allowed=not is_over)

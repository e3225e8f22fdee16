"""A call's life in the dispatcher, Sans-I/O: events and the time go in, actions come out.

    AWAITING_INIT ──init──▶ PLACING ──placed──▶ OPENING ──OPENED──▶ CONNECTING ──READY──▶ LIVE
          │                  ▲ ▲ │                 │                    │                  │
          │                  │ └─┴─ none has room ─┤                    │                  │
          │                  └─── REFUSED, worker lost, RELEASED ───────┴──────────────────┤
          │                      ├─────────── it cannot go on ──────────────▶ PARTING ────┤
          └──────────────────────┴─────────── any end ────────────────────────────────────┴──▶ ENDED

The call owns the caller's side: the caller's audio, the reply on its way to the caller with the playout clock, and
the memory of what was said. So a worker can die: whatever ends a call's session (its worker was lost, its Realtime
connection dropped, its worker is to stop, its time is over), there is one way back: another leg at the next epoch,
which is given the memory and goes on. A session that still works is first told to let go (`RELEASE`), when the
other one stands by.

A call that no worker can go on with takes the way out (`PARTING`), if there is one and its caller is there. The
recorded sentence is played, then the call is transferred, or ends with the reason for which it could not go on.
While an answer is owed and nothing is audible, filler is played (`_fill`), at ticks and at `Wake`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from websockets.typing import BytesLike

from common.errors import AvrProtocolError, LinkProtocolError
from common.link import wire
from common.link.wire import Kind, Outcome, Reason, Refusal
from common.observe.metrics import FallbackOutcome
from dispatcher.avr import protocol
from dispatcher.call.action_queue import ActionQueue
from dispatcher.call.actions import (
    Action,
    CloseCaller,
    Complain,
    Ended,
    Ending,
    Execute,
    LeaveChannel,
    Metric,
    PassedOver,
    Place,
    Publish,
    Purpose,
    TookWayOut,
    ToWorker,
    TransferAway,
    Unpin,
    Wake,
)
from dispatcher.call.announcements import SILENT, Announcements
from dispatcher.call.assignment import Assignment, AssignmentState
from dispatcher.call.caller_audio import CallerAudio
from dispatcher.call.filler import STEP_SECONDS, Filler
from dispatcher.call.limits import DEFAULT_LIMITS, CallLimits
from dispatcher.call.memory import CallMemory
from dispatcher.call.parting import CORE_BUFFER_SECONDS, Parting
from dispatcher.call.reply_playback import ReplyPlayback
from dispatcher.call.telephony_commands import TRANSFERRED, TelephonyCommands
from dispatcher.call.token_bucket import TokenBucket


class State(StrEnum):
    """Where a call is; the value is what `GET /calls` shows."""

    AWAITING_INIT = "awaiting_init"
    PLACING = "placing"
    OPENING = "opening"
    CONNECTING = "connecting"
    LIVE = "live"
    PARTING = "parting"
    ENDED = "ended"


# States in which no worker has the call: its dispatcher carries out the calls API's commands.
WITHOUT_WORKER = frozenset({State.PLACING, State.OPENING, State.PARTING})

TOO_MANY_MESSAGES = "messages come faster than any caller can speak"
# Nothing came for so long: the network stalled, or this process. What it held back may come at once.
GAP_SECONDS = 1.0
# Keys that are no part of the conversation yet: more than any menu asks for.
MAX_WAITING_DIGITS = 64

# Before the next session, where the last ones did not last.
DELAY_FIRST_SECONDS = 0.25
DELAY_MOST_SECONDS = 5.0
# A move that found no worker is tried again so soon; the session goes on meanwhile.
MOVE_AGAIN_SECONDS = 1.0
# Maximum time for the orders of a caller that did not come back.
PROMISE_SECONDS = 15.0
CLEAN_CLOSES = (1000, 1001, 1005)


@dataclass(slots=True)
class _Move:
    """The call is to leave its session."""

    reason: str
    deadline_seconds: float
    next_try_seconds: float
    excluded: set[str]


class Call:
    """One call. Methods are events; what is to be done collects in `actions`, which the shell takes and clears.

    All times are seconds of one monotonic clock.
    """

    def __init__(
        self,
        metadata: dict[str, str],
        now_seconds: float,
        limits: CallLimits = DEFAULT_LIMITS,
        announcements: Announcements = SILENT,
    ) -> None:
        self.state = State.AWAITING_INIT
        self.uuid = ""
        self.metadata = metadata
        self.epoch = 0
        self.pins = 0
        self.worker_id = ""
        self.refused_for_capacity = False
        self.memory = CallMemory()
        self._out = ActionQueue()
        self._limits = limits
        self._opened_seconds = now_seconds
        self._init_seconds = now_seconds
        self._began_seconds = now_seconds
        self._audio_seconds = self._message_seconds = now_seconds
        self._stuck_since: float | None = None
        self._away_since: float | None = None
        self._away_because = ""
        self._may_return = True
        self._audio_bucket = TokenBucket(limits.flood_ratio, limits.burst_seconds, now_seconds)
        self._message_bucket = TokenBucket(
            limits.messages_per_second, 10 * limits.messages_per_second, now_seconds
        )
        # Workers
        self._assignment: Assignment | None = None
        self._next: Assignment | None = None
        # The leg that released the call: its worker keeps what it knows until another session has the call.
        self._resting: Assignment | None = None
        self._move: _Move | None = None
        self._excluded: set[str] = set()
        self._refusals = 0
        self._held_epoch = 0
        self._claimed_epoch = 0
        self._reason = ""
        self._lost_seconds = now_seconds
        self._place_again_seconds: float | None = None
        self._ready_seconds = now_seconds
        self._unstable_since: float | None = None
        self._drops = 0
        # Caller → worker
        self._audio = CallerAudio(limits.waiting_bytes)
        self._speaking = False
        self._spoke_before_us = False
        self._keys: list[str] = []
        self._passed_over = False
        self.provider_config: dict[str, Any] = {}
        # Worker → caller
        self._playback = ReplyPlayback(self._out, self.memory, now_seconds)
        self._orders = TelephonyCommands(limits.order_seconds)
        self._hung_up_seconds: float | None = None
        self._is_told_to_hang_up = False
        # By this dispatcher itself
        self._announcements = announcements
        self._parting: Parting | None = None
        self._filler = Filler(announcements.filler, announcements.filler_after_seconds)
        self._wakes = False

    @property
    def actions(self) -> list[Action]:
        """What is to be done, in order; whoever does it puts an empty list in its place."""
        return self._out.actions

    @actions.setter
    def actions(self, actions: list[Action]) -> None:
        self._out.actions = actions

    @property
    def paused(self) -> bool:
        """Whether what comes for AVR Core is held because it does not read, or is away."""
        return self._playback.is_held

    @property
    def is_away(self) -> bool:
        """Whether the caller's connection broke, and the call waits for the next one."""
        return self._away_since is not None

    @property
    def held_epoch(self) -> int:
        """The epoch at which a worker has the call, or had it last; 0 if none had.

        It is higher than the worker's where Redis knows of another one (`outrank`).
        """
        return max(self._held_epoch, self._claimed_epoch)

    def outrank(self, epoch: int) -> None:
        """Redis remembers a holder from before it was away, when this call was placed: this one is newer."""
        self._claimed_epoch = epoch + 1
        self.epoch = max(self.epoch, self._claimed_epoch)

    @property
    def is_held(self) -> bool:
        """Whether a worker has the call, or is to take it over; or the call takes the way out."""
        if self.state is State.PARTING:
            return True
        return self.state is not State.ENDED and (self._assignment is not None or bool(self._reason))

    # Events from the caller

    def message(self, data: BytesLike, now_seconds: float) -> None:
        """A message of AVR Core has come, in a text frame or a binary one.

        AVR's connectors pass over what they do not know, and its cores gain message types with each release: so a
        message that is not understood costs nothing but itself.
        """
        if self.state is State.ENDED:
            return
        try:
            self._note_gap(now_seconds)
            if self._message_bucket.exceeded(1, now_seconds):
                raise AvrProtocolError("flood", TOO_MANY_MESSAGES, ends_call=True)
            message = protocol.parse(data)
            if isinstance(message, protocol.Audio):
                self._caller_audio(message.pcm, now_seconds)
            elif isinstance(message, protocol.Init):
                self._init(message, now_seconds)
            else:
                self._digit(message.digit)
        except AvrProtocolError as error:
            self._not_understood(error)

    def began(self, uuid: str, now_seconds: float) -> None:
        """The older protocol has said which call it is."""
        try:
            self._init(protocol.checked_init(uuid), now_seconds)
        except AvrProtocolError as error:
            self._not_understood(error)

    def audio(self, pcm: bytes, now_seconds: float, *, messages: int = 0) -> None:
        """Caller's audio has come: PCM16 at 8 kHz, whole samples.

        Args:
            pcm: of all messages that came together, or of the older protocol, which has none.
            now_seconds: when.
            messages: how many.
        """
        if self.state is State.ENDED:
            return
        try:
            self._note_gap(now_seconds)
            if messages and self._message_bucket.exceeded(messages, now_seconds):
                raise AvrProtocolError("flood", TOO_MANY_MESSAGES, ends_call=True)
            self._caller_audio(pcm, now_seconds)
        except AvrProtocolError as error:
            self._not_understood(error)

    def _note_gap(self, now_seconds: float) -> None:
        gap_seconds, self._message_seconds = now_seconds - self._message_seconds, now_seconds
        if gap_seconds >= GAP_SECONDS:
            gap_seconds = min(gap_seconds, self._limits.silence_seconds)
            self._audio_bucket.save(gap_seconds)
            self._message_bucket.save(gap_seconds)

    def _not_understood(self, error: AvrProtocolError) -> None:
        """Pass a message over, or end the call for it."""
        if error.ends_call:
            self.broke_protocol(error.reason, str(error))
            return
        self._out.report(Metric.BAD_INPUT, label=error.reason)
        if not self._passed_over:
            self._passed_over = True
            self._out.actions.append(PassedOver(error.reason, str(error)))

    def broke_protocol(self, reason: str, message: str) -> None:
        """AVR Core broke the protocol: this call ends, and no other."""
        if self.state is State.ENDED:
            return
        self._out.report(Metric.BAD_INPUT, label=reason)
        self._end(Ending.REJECTED if not self.pins else Ending.FAILED, 1008, message)

    def caller_closed(self, code: int, now_seconds: float, *, may_return: bool = True) -> None:
        """The caller's connection is gone: cleanly (1000, 1001, 1005), or lost, and then it may come back."""
        reason = f"the caller's connection closed with {code}"
        if self.state is State.AWAITING_INIT:
            self._finish(Ending.REJECTED, f"{reason} before init")
        elif code in CLEAN_CLOSES or self._is_over_on_asterisk:
            self._finish(Ending.COMPLETED, reason)
        elif self.state is State.ENDED:
            return
        elif (not may_return or not self._limits.reconnect_seconds) and not self._orders.is_busy:
            self._finish(Ending.FAILED, reason)
        else:
            self._away_since = now_seconds
            self._may_return = may_return and self._limits.reconnect_seconds > 0
            self._away_because = reason
            self._stuck_since = None
            self._playback.away()

    def caller_back(self, now_seconds: float) -> None:
        """Another connection has said that it is this call: it goes on there."""
        if self.state is State.ENDED:
            return
        self._away_since = None
        self._audio_seconds = now_seconds
        self._audio_bucket = TokenBucket(self._limits.flood_ratio, self._limits.burst_seconds, now_seconds)
        self._stuck_since = None
        self._playback.back(self._assignment, now_seconds)

    def caller_paused(self, now_seconds: float) -> None:
        """AVR Core does not read: hold what comes for it."""
        self._playback.hold()
        self._stuck_since = now_seconds

    def caller_writable(self, now_seconds: float) -> None:
        """AVR Core reads again."""
        if self.state is State.ENDED:
            return
        self._stuck_since = None
        self._playback.writable(self._assignment, now_seconds)

    def superseded(self) -> None:
        """Another connection with the same uuid has the call now, at another dispatcher."""
        self._end(Ending.MOVED, 1008, "another connection with the same uuid has taken this call over")

    def absorbed(self) -> None:
        """The call of this uuid was here already, and has this call's connection now."""
        self.state = State.ENDED
        self._out.actions.append(Ended(Ending.MOVED, "it is the same call"))

    def stopped(self, reason: str) -> None:
        """This process ends and cannot wait for the call any longer."""
        self._end(Ending.FAILED, 1011, reason)

    def failed(self, reason: str, now_seconds: float) -> None:
        """Give the call up, because of a fault within this process."""
        self._fail(Ending.FAILED, 1011, reason, now_seconds)

    def hang_up(self) -> None:
        """End a call that no worker has, for the calls API: on Asterisk, as a worker would have it done."""
        parting = self._parting
        if self.state is State.ENDED:
            return
        is_leaving = parting is not None and (parting.is_over or parting.is_transferring)
        if self._is_told_to_hang_up or self._is_over_on_asterisk or is_leaving:
            self._end(Ending.COMPLETED, 1000, "")
            return
        self._is_told_to_hang_up = True
        if parting is not None:
            parting.is_over = True
        self._out.actions.append(Execute(wire.TelephonyCommand("the calls API", wire.TelephonyAction.HANG_UP)))

    @property
    def may_be_left(self) -> bool:
        """Whether its worker would keep it for a caller who comes back, and there is something to come back to."""
        assignment = self._assignment
        return (
            assignment is not None
            and assignment.state is not AssignmentState.OPENING
            and self._hung_up_seconds is None
        )

    def left(self, reason: str) -> None:
        """This process ends: the call waits at its worker for the dispatcher to which its caller comes back."""
        if self._next is not None:
            self._out.record(self._next, wire.Close(reason))
        self._out.actions += [LeaveChannel(assignment) for assignment in self._assignments]
        self._assignment = self._next = self._resting = None
        self.state = State.ENDED
        self._audio.clear()
        self._out.actions.append(Ended(Ending.MOVED, reason))

    # Events from placement

    def place(self, epoch: int = 1) -> None:
        """Ask for a worker, at this epoch at least."""
        self.state = State.PLACING
        purpose = Purpose.RECOVER if self._reason else Purpose.BEGIN
        self._out.actions.append(Place(purpose, max(epoch, self.epoch + 1), frozenset(self._excluded)))

    def wants(self, purpose: Purpose) -> bool:
        """Whether a worker is still wanted for this."""
        if purpose is Purpose.MOVE:
            return self._move is not None and self._assignment is not None and self._next is None
        return self.state is State.PLACING and self._place_again_seconds is None

    def placed(self, assignment: Assignment, now_seconds: float) -> None:
        """Ask the worker of a new assignment, to which there is a channel, to take the call."""
        if self.wants(Purpose.MOVE):
            self._placed_next(assignment, now_seconds)
            return
        self._expect("placed", State.PLACING)
        self.pins = assignment.pins
        self._is_older(assignment.age_seconds, now_seconds)
        self._assignment = assignment
        self._begin_assignment(assignment, "" if assignment.attach else self._reason)
        self.worker_id, self._held_epoch = assignment.worker_id, assignment.epoch
        self.state = State.OPENING
        self._open(assignment, now_seconds, attach=assignment.attach)
        if assignment.reason:
            self._give_memory(assignment)

    def restored(self, memory: CallMemory, now_seconds: float) -> None:
        """What another dispatcher had written of this call: it died, and the call's worker with it."""
        self.memory = self._playback.memory = memory
        self._reason = Reason.WORKER_LOST
        self._lost_seconds = now_seconds
        self._playback.was_here_before()

    def not_placed(self, code: int, message: str, now_seconds: float, *, is_known: bool = True) -> None:
        """Try again within a bound, or give the call up.

        Args:
            code: 1013 if no worker can take the call, 1011 if none could be asked.
            message: for AVR Core.
            now_seconds: when.
            is_known: False if Redis is away and no worker is known.
        """
        if self.state is not State.PLACING:
            if self._move is not None:
                self._move.next_try_seconds = now_seconds + MOVE_AGAIN_SECONDS
                self._move.excluded.clear()
            return
        limits = self._limits
        since, seconds = self._init_seconds, limits.placing_seconds if code == 1011 else 0.0
        if not is_known:
            seconds = min(seconds, limits.unknown_seconds)
        if self._reason:
            since, seconds = self._lost_seconds, limits.recovery_seconds
        if now_seconds - since < seconds:
            # One may come, or have room again; who was out of reach may be back.
            self._excluded.clear()
            self._place_again_seconds = now_seconds + limits.place_again_seconds
            return
        ending = Ending.REJECTED if code == 1013 and not self._reason else Ending.FAILED
        self._fail(ending, code, message, now_seconds)

    # Events from the link

    def record(self, assignment: Assignment, kind: int, payload: memoryview, now_seconds: float) -> None:
        """Handle a record of an assignment's worker.

        Raises:
            LinkProtocolError: it cannot be understood.
        """
        if self.state is State.ENDED or (assignment is not self._assignment and assignment is not self._next):
            return
        if assignment is self._assignment:
            self._record(assignment, kind, payload, now_seconds)
        else:
            self._next_record(assignment, kind, payload, now_seconds)

    def link_broke(self, assignment: Assignment) -> None:
        """Note that the link to an assignment's worker broke, and another one is looked for."""
        if assignment is self._resting:
            self._leave_resting()

    def channel_full(self, assignment: Assignment, now_seconds: float) -> None:
        """Give the call up because the worker acknowledges no records."""
        if assignment is self._assignment or assignment is self._next:
            self._fail(Ending.FAILED, 1011, "the call's worker acknowledges nothing", now_seconds)

    def worker_lost(self, assignment: Assignment, now_seconds: float) -> None:
        """Recover the call, because the link to an assignment's worker is gone, and none can be had."""
        if assignment is self._resting:
            self._leave_resting()
        elif assignment is self._next:
            self._leave_next(now_seconds)
        elif assignment is self._assignment:
            self._recover(Reason.WORKER_LOST, now_seconds, excluded=assignment.worker_id)

    # Time

    def tick(self, now_seconds: float) -> None:
        """Look at the clocks; meant to be called every 200 ms."""
        if self.state is not State.ENDED:
            self._playback.report(self._assignment, now_seconds)
            self._execute_order(now_seconds)
            self._look_after_workers(now_seconds)
            if self._parting is not None:
                self._part(self._parting, now_seconds)
            if self._filler.is_on:
                self._fill(now_seconds)
        if self.state is not State.ENDED:
            self._look_after_caller(now_seconds)

    def _look_after_caller(self, now_seconds: float) -> None:
        limits = self._limits
        if self._away_since is not None:
            wait_seconds = limits.reconnect_seconds if self._may_return else 0.0
            late_seconds = now_seconds - self._away_since - wait_seconds
            if late_seconds < 0 or (late_seconds < PROMISE_SECONDS and self._execute_promise(now_seconds)):
                return
            if not self._may_return:
                self._finish(Ending.FAILED, self._away_because)
            else:
                seconds = f"{limits.reconnect_seconds:g} s"
                self._finish(Ending.FAILED, f"{self._away_because}, and it did not come back within {seconds}")
        elif self._hung_up_seconds is not None and now_seconds - self._hung_up_seconds >= limits.hung_up_seconds:
            self._end(Ending.COMPLETED, 1000, "")
        elif self.state is State.AWAITING_INIT:
            if now_seconds - self._opened_seconds >= limits.init_seconds:
                self.broke_protocol("no_init", f"no init within {limits.init_seconds:g} s")
        elif now_seconds - self._audio_seconds >= limits.silence_seconds:
            self.broke_protocol("no_audio", f"no audio from the caller for {limits.silence_seconds:g} s")
        elif self._stuck_since is not None and now_seconds - self._stuck_since >= limits.stuck_seconds:
            self.broke_protocol("not_reading", f"AVR Core has read nothing for {limits.stuck_seconds:g} s")

    def _look_after_workers(self, now_seconds: float) -> None:
        limits = self._limits
        if self.state is State.LIVE and now_seconds - self._ready_seconds >= limits.unstable_seconds:
            # This session lasts.
            self._unstable_since, self._drops = None, 0
        if self.state in (State.PLACING, State.OPENING):
            since, seconds = self._init_seconds, limits.placing_seconds
            if self._reason:
                since, seconds = self._lost_seconds, limits.recovery_seconds
            if now_seconds - since >= seconds:
                self._fail(Ending.FAILED, 1011, f"no worker took the call within {seconds:g} s", now_seconds)
                return
        if self._place_again_seconds is not None and now_seconds >= self._place_again_seconds:
            self._place_again_seconds = None
            self.place()
        move = self._move
        if move is not None and self._next is None and now_seconds >= move.next_try_seconds:
            self._place_next(move)

    # Orders

    def _execute_order(self, now_seconds: float) -> None:
        for void in self._orders.take_void():
            if self._assignment is not None:
                self._out.record(self._assignment, wire.TelephonyDone(void.id, True, TRANSFERRED))
            if void.action == wire.TelephonyAction.HANG_UP and self._hung_up_seconds is None:
                # The call is with somebody else. Only the connection of its core may still be open.
                self._hung_up_seconds = now_seconds
        order = self._orders.due(now_seconds, all_heard=self._last_words_played(now_seconds))
        if order is not None:
            self._out.actions.append(Execute(order))

    def _last_words_played(self, now_seconds: float) -> bool:
        """Whether the replies have left AVR Core, which plays a little later than the playout clock."""
        playback = self._playback
        played_seconds = playback.quiet_since_seconds + CORE_BUFFER_SECONDS
        return playback.all_heard(now_seconds) and played_seconds <= now_seconds

    def _execute_promise(self, now_seconds: float) -> bool:
        """Carry out orders of a caller that did not come back; return whether one is under way.

        The core is gone, and the caller's channel may still be at Asterisk. The last words are not played.
        """
        order = self._orders.due(now_seconds, all_heard=True)
        if order is not None:
            self._out.actions.append(Execute(order))
        return self._orders.is_busy

    def executed(self, order: wire.TelephonyCommand, ok: bool, message: str, now_seconds: float) -> None:
        """What avr-ami made of an order."""
        result = wire.TelephonyDone(order.id, ok, message)
        self._orders.executed(result)
        if self.state is State.ENDED:
            return
        if self._assignment is not None:
            self._out.record(self._assignment, result)
        if order.action == wire.TelephonyAction.HANG_UP:
            if ok:
                # AVR Core closes when Asterisk has hung up.
                self._hung_up_seconds = now_seconds
            else:
                # Without avr-ami, the end of the connection is the end of the call.
                self._end(Ending.COMPLETED, 1000, "")
        elif ok and self._parting is not None:
            # The transfer that the agent had promised is the way out.
            self._parting.outcome = FallbackOutcome.TRANSFERRED
            self._hung_up_seconds = now_seconds
        self._end_lost_caller()

    @property
    def _is_over_on_asterisk(self) -> bool:
        """Whether avr-ami has hung up or transferred the call: a lost connection is then the expected end."""
        return self._hung_up_seconds is not None or self._orders.has_transferred

    def _end_lost_caller(self) -> None:
        """End a call at once if its connection broke while avr-ami was hanging up or transferring the call."""
        if self._away_since is not None and self._is_over_on_asterisk:
            self._finish(Ending.COMPLETED, self._away_because)

    # The caller's side

    def _init(self, init: protocol.Init, now_seconds: float) -> None:
        if self.state is not State.AWAITING_INIT:
            raise AvrProtocolError("second_init", "a second init in the same connection")
        self.uuid = init.uuid
        self.provider_config = init.provider_config
        self._init_seconds = self._began_seconds = self._audio_seconds = self._playback.init_seconds = now_seconds
        # The greeting.
        self._filler.owed(now_seconds)
        self.place()

    def _caller_audio(self, pcm: bytes, now_seconds: float) -> None:
        if self.state is State.AWAITING_INIT:
            raise AvrProtocolError("before_init", "audio before init")
        if self._audio_bucket.exceeded(len(pcm) / 2 / protocol.SAMPLE_RATE_HZ, now_seconds):
            raise AvrProtocolError("flood", "audio comes much faster than real time", ends_call=True)
        if not pcm:
            return
        self._audio_seconds = now_seconds
        assignment = self._assignment
        if assignment is not None and assignment.credit_bytes >= len(pcm) and not self._audio.waiting_bytes:
            assignment.credit_bytes -= len(pcm)
            self._out.record(assignment, wire.CallerAudio(self._audio.passed(pcm), pcm))
            return
        if self.state is State.PARTING:
            return
        dropped_seconds = self._audio.wait(pcm)
        if dropped_seconds:
            self._out.report(Metric.CALLER_AUDIO_DROPPED_SECONDS, dropped_seconds)
        self._send_waiting()

    def _send_waiting(self) -> None:
        assignment = self._assignment
        if assignment is not None:
            for position, pcm in self._audio.take(assignment.credit_bytes):
                assignment.credit_bytes -= len(pcm)
                self._out.record(assignment, wire.CallerAudio(position, pcm))

    def _digit(self, digit: str) -> None:
        if self.state is State.AWAITING_INIT:
            raise AvrProtocolError("before_init", "dtmf_digit before init")
        self._out.report(Metric.DIGIT)
        if len(self._keys) >= MAX_WAITING_DIGITS:
            return
        self._keys.append(digit)
        assignment = self._assignment
        if assignment is not None and (assignment.state is not AssignmentState.OPENING or assignment.reason):
            self._out.record(assignment, wire.Dtmf(digit))

    # The worker's side: the leg that has the call

    def _record(self, assignment: Assignment, kind: int, payload: memoryview, now_seconds: float) -> None:
        match kind:
            case Kind.REPLY_AUDIO:
                index, pcm = wire.decode_reply_audio(payload)
                self._playback.audio(assignment, index, bytes(pcm), now_seconds)
            case Kind.REPLY_TEXT:
                self.memory.reply_text(*wire.decode_reply_text(payload))
            case Kind.CREDIT:
                assignment.credit_bytes += wire.decode_credit(payload)
                self._send_waiting()
            case Kind.REPLY_ITEM:
                began = wire.decode_control(wire.ReplyItem, payload)
                self.memory.reply_began(began.index, began.item_id)
            case Kind.REPLY_ITEM_DONE:
                self._playback.item_done(wire.decode_control(wire.ReplyItemDone, payload).index, now_seconds)
            case Kind.FLUSH:
                self._playback.flush(assignment, wire.decode_control(wire.Flush, payload).number, now_seconds)
            case Kind.TRANSCRIPT:
                self._playback.transcript(wire.decode_control(wire.Transcript, payload))
            case Kind.ITEM_UPDATE:
                self.memory.remember(wire.decode_control(wire.ItemUpdate, payload), len(payload))
            case Kind.PROFILE:
                self.memory.keep_profile(wire.decode_control(wire.Profile, payload))
            case Kind.FINISHED:
                finished = wire.decode_control(wire.Finished, payload)
                self._speaking = finished.speaking
                # At first the dispatcher that is gone had the audio of what the caller is saying.
                attaches = assignment.is_attached and self.state is State.CONNECTING
                self._spoke_before_us = finished.speaking and (attaches or self._spoke_before_us)
                self._audio.finished(finished.position_samples)
            case Kind.KEYED:
                del self._keys[: wire.decode_control(wire.Keyed, payload).digits]
            case Kind.TELEPHONY_COMMAND:
                self._orders.add(wire.decode_control(wire.TelephonyCommand, payload), now_seconds)
            case Kind.TOOL:
                self._out.record(assignment, wire.ToolKnown(wire.decode_control(wire.Tool, payload).call_id))
            case Kind.PENDING_REPLIES:
                self.memory.restore_replies(wire.decode_control(wire.PendingReplies, payload).replies)
            case Kind.KEPT_AUDIO:
                position, codes = wire.decode_kept_audio(payload)
                self._audio.keep(position, bytes(codes))
                # A session that is not up yet tells all the audio that it has.
                self._spoke_before_us = False
            case Kind.PLAYOUT:
                self._playback.restore(wire.decode_control(wire.Playout, payload), now_seconds)
            case Kind.OPENED:
                self._opened(assignment, wire.decode_control(wire.Opened, payload), now_seconds)
            case Kind.REFUSED:
                self._refused(wire.decode_control(wire.Refused, payload), now_seconds)
            case Kind.READY:
                # One that stood by when it said so has been told to go on meanwhile, and says it again.
                if not wire.decode_control(wire.Ready, payload).standby:
                    self._ready(assignment, now_seconds)
            case Kind.AWAITING:
                if wire.decode_control(wire.Awaiting, payload).waiting:
                    self._filler.owed(now_seconds)
                else:
                    self._filler.settled()
            case Kind.MOVE:
                self._begin_move(wire.decode_control(wire.Move, payload), now_seconds)
            case Kind.RELEASED:
                self._released(wire.decode_control(wire.Released, payload), now_seconds)
            case Kind.CLOSE:
                self.superseded()
            case Kind.ENDED:
                self._worker_ended(wire.decode_control(wire.Ended, payload), now_seconds)
            case _:
                # Kinds of a newer release are skipped.
                pass

    def _is_older(self, age_seconds: float, now_seconds: float) -> None:
        """Take note that the call began before this dispatcher had it."""
        self._began_seconds = min(self._began_seconds, now_seconds - age_seconds)

    def _opened(self, assignment: Assignment, opened: wire.Opened, now_seconds: float) -> None:
        self._expect("OPENED", State.OPENING)
        self.state = State.CONNECTING
        assignment.state = AssignmentState.TAKEN
        assignment.credit_bytes = opened.credit_bytes
        self._out.actions.append(Publish())
        self._count_repin(assignment)
        if opened.attached:
            assignment.is_attached = True
            self._playback.was_here_before()
            self._audio.rebase(opened.position_samples)
            # Redis may have been away, or may have lost when the call began.
            self._is_older(opened.position_samples / protocol.SAMPLE_RATE_HZ, now_seconds)
        self._send_waiting()
        if not assignment.reason:
            for digit in self._keys:
                self._out.record(assignment, wire.Dtmf(digit))

    def _ready(self, assignment: Assignment, now_seconds: float) -> None:
        self._expect("READY", State.CONNECTING)
        self.state = State.LIVE
        assignment.state = AssignmentState.READY
        self._ready_seconds = now_seconds
        self._filler.lapses(now_seconds)
        self._excluded.clear()
        self._refusals = 0
        self.memory.is_recalled = False
        if self._resting is not None:
            self._close_assignment(self._resting, "another session has the call")
            self._resting = None
        # Any other session has been told of it.
        self._spoke_before_us &= assignment.is_attached
        if self._reason:
            self._out.report(Metric.RECOVERY_SECONDS, now_seconds - self._lost_seconds, self._reason)
            self._reason = ""
        if assignment.move is not None:
            self._begin_move(assignment.move, now_seconds)

    def _refused(self, refused: wire.Refused, now_seconds: float) -> None:
        if refused.reason == Refusal.UNKNOWN:
            # It has no session of this call, or not any more.
            assert self._assignment is not None
            self._recover(Reason.WORKER_LOST, now_seconds, excluded="")
            return
        self._expect("REFUSED", State.OPENING)
        self._leave_assignment()
        if refused.reason != Refusal.STALE_EPOCH:
            self._excluded.add(self.worker_id)
        self.epoch = max(self.epoch, refused.epoch)
        self.refused_for_capacity = refused.reason in (Refusal.FULL, Refusal.DRAINING)
        # A full worker is not asked again, and another one may have room: only the time for placing limits that.
        self._refusals += not self.refused_for_capacity
        if self._refusals >= self._limits.placing_attempts and not self._reason:
            message = f"{self._refusals} workers refused the call, the last because it is {refused.reason}"
            self._fail(Ending.FAILED, 1011, message, now_seconds)
        else:
            self.place()

    def _worker_ended(self, ended: wire.Ended, now_seconds: float) -> None:
        self._leave_assignment()
        if ended.outcome == Outcome.COMPLETED:
            self._end(Ending.COMPLETED, 1000, "")
        else:
            self._fail(Ending.FAILED, 1011, ended.message or "the call failed", now_seconds)

    def _released(self, released: wire.Released, now_seconds: float) -> None:
        """The worker has let the call go: its session is over, or another one stands by."""
        assignment, self._assignment = self._assignment, None
        assert assignment is not None
        if self._resting is None and (assignment.state is AssignmentState.READY or assignment.is_attached):
            self._resting = assignment
        else:
            self._close_assignment(assignment, "another session is to have the call")
        if released.reason == Reason.DROPPED:
            self._note_drop(now_seconds)
            self._recover(Reason.DROPPED, now_seconds, same_worker=self.worker_id)
        else:
            self._recover(released.reason, now_seconds, excluded=self.worker_id)

    def _note_drop(self, now_seconds: float) -> None:
        if self._unstable_since is None:
            self._unstable_since = now_seconds
        else:
            self._drops += 1

    # Another leg

    def _begin_assignment(self, assignment: Assignment, reason: str) -> None:
        self.epoch = max(self.epoch, assignment.epoch)
        assignment.reason = reason
        assignment.given_bytes = max(0, wire.REPLY_CREDIT_BYTES - self._playback.held_bytes)

    def _count_repin(self, assignment: Assignment) -> None:
        """A worker has taken the call; one that was only asked, or stood by, does not count."""
        reason = self._reason if self._reason == Reason.WORKER_LOST else assignment.reason
        if assignment.reason and reason in (Reason.WORKER_LOST, Reason.DRAIN):
            self._out.report(Metric.REPIN, label=reason)

    def _open(self, assignment: Assignment, now_seconds: float, *, attach: bool = False) -> None:
        waited, delay = 0.0, 0.0
        if assignment.reason == Reason.DROPPED and self._unstable_since is not None:
            waited = now_seconds - self._unstable_since
            delay = min(DELAY_FIRST_SECONDS * 2 ** (self._drops - 1), DELAY_MOST_SECONDS) if self._drops else 0.0
        opening = wire.Open(
            uuid=self.uuid,
            epoch=assignment.epoch,
            metadata=self.metadata,
            position_samples=self._audio.first_waiting_samples,
            credit_bytes=assignment.given_bytes,
            age_seconds=now_seconds - self._began_seconds,
            provider_config=self.provider_config,
            restore=bool(assignment.reason),
            attach=attach,
            first_index=self.memory.next_index,
            delay_seconds=delay,
            waited_seconds=waited,
            filler=self._filler.is_on,
        )
        self._out.actions.append(ToWorker(assignment, opening, counted=False))

    def _give_memory(self, assignment: Assignment, *, standby: bool = False) -> None:
        """All that there is to know of the call; a leg that is to stand by gets it again when it has the call."""
        for record in self.memory.records():
            self._out.record(assignment, record)
        if not standby:
            for position, codes in self._audio.kept():
                self._out.record(assignment, wire.KeptAudio(position, codes))
        go = wire.Resume(
            assignment.reason,
            standby,
            self._orders.known,
            "".join(self._keys),
            self._speaking,
            recalled=self.memory.is_recalled,
            first_index=self.memory.next_index,
            words_lost=self._spoke_before_us,
        )
        self._out.record(assignment, go)
        if not standby:
            for result in self._orders.results:
                self._out.record(assignment, result)

    def _recover(self, reason: str, now_seconds: float, *, excluded: str = "", same_worker: str = "") -> None:
        """The one way back: the session is gone, another one is to go on."""
        self._leave_assignment()
        if self._filler.is_on and (self._filler.is_owed or self.memory.is_replying):
            self._filler.owed(now_seconds)
        if not self._reason:
            self._lost_seconds = now_seconds
        self._reason = reason
        self._playback.lost(now_seconds)
        standby, self._next, self._move = self._next, None, None
        if standby is not None:
            self._out.actions.append(Publish())
            # It has the memory already, and waits for nothing but this.
            self._assignment = standby
            self.pins += standby.worker_id != self.worker_id
            self.worker_id, self._held_epoch = standby.worker_id, standby.epoch
            self.state = State.OPENING if standby.state is AssignmentState.OPENING else State.CONNECTING
            if standby.state is not AssignmentState.OPENING:
                self._count_repin(standby)
            self._give_memory(standby)
            return
        if excluded:
            self._excluded.add(excluded)
        self.state = State.PLACING
        self._out.actions.append(Place(Purpose.RECOVER, self.epoch + 1, frozenset(self._excluded), same_worker))

    def _begin_move(self, wanted: wire.Move, now_seconds: float) -> None:
        move = self._move
        if move is None:
            self._move = _Move(wanted.reason, now_seconds + wanted.seconds, now_seconds, set())
            self._place_next(self._move)
        elif wanted.reason == Reason.DRAIN and move.reason != Reason.DRAIN:
            move.reason = wanted.reason
            move.deadline_seconds = min(move.deadline_seconds, now_seconds + wanted.seconds)
            standby = self._next
            if standby is not None and standby.worker_id == self.worker_id:
                # This standby would have to leave the same worker again.
                self._out.record(standby, wire.Close("the worker stops"))
                self._leave_next(now_seconds)
                self._place_next(move)

    def _place_next(self, move: _Move) -> None:
        move.next_try_seconds = float("inf")
        stays = move.reason == Reason.ROLLOVER and self.worker_id not in move.excluded
        same_worker = self.worker_id if stays else ""
        excluded = move.excluded | ({self.worker_id} if move.reason == Reason.DRAIN else set())
        self._out.actions.append(Place(Purpose.MOVE, self.epoch + 1, frozenset(excluded), same_worker))

    def _placed_next(self, assignment: Assignment, now_seconds: float) -> None:
        assert self._move is not None
        self._next = assignment
        self._begin_assignment(assignment, self._move.reason)
        self._open(assignment, now_seconds)
        self._give_memory(assignment, standby=True)

    def _next_record(self, assignment: Assignment, kind: int, payload: memoryview, now_seconds: float) -> None:
        """A record of the leg that stands by."""
        match kind:
            case Kind.OPENED:
                assignment.state = AssignmentState.TAKEN
                assignment.credit_bytes = wire.decode_control(wire.Opened, payload).credit_bytes
            case Kind.READY:
                assignment.state = AssignmentState.READY
                self._let_release(now_seconds)
            case Kind.CREDIT:
                assignment.credit_bytes += wire.decode_credit(payload)
            case Kind.MOVE:
                assignment.move = wire.decode_control(wire.Move, payload)
            case Kind.REFUSED:
                refused = wire.decode_control(wire.Refused, payload)
                self.epoch = max(self.epoch, refused.epoch)
                self._leave_next(now_seconds, may_be_asked_again=refused.reason == Refusal.STALE_EPOCH)
            case Kind.ENDED | Kind.RELEASED:
                self._leave_next(now_seconds)
            case _:
                pass

    def _let_release(self, now_seconds: float, *, revoked: bool = False) -> None:
        """The session may let the call go, as another one stands by; or not any more."""
        if self._assignment is not None and self._move is not None:
            seconds = max(0.0, self._move.deadline_seconds - now_seconds)
            self._out.record(self._assignment, wire.Release(seconds, revoked))

    def _leave_next(self, now_seconds: float, *, may_be_asked_again: bool = False) -> None:
        """The leg that was to stand by does not; the session goes on, and another try is made."""
        standby, self._next = self._next, None
        if standby is not None:
            self._out.actions.append(LeaveChannel(standby))
            if standby.state is AssignmentState.READY:
                self._let_release(now_seconds, revoked=True)
            if self._move is not None:
                if not may_be_asked_again:
                    self._move.excluded.add(standby.worker_id)
                self._move.next_try_seconds = now_seconds + MOVE_AGAIN_SECONDS

    # By this dispatcher itself

    def wake(self, now_seconds: float) -> None:
        """Play filler for the next moment: the time of a `Wake` has come."""
        self._wakes = False
        self._fill(now_seconds)

    def _fill(self, now_seconds: float) -> None:
        """Play filler for the next moment, if it is due."""
        filler, playback = self._filler, self._playback
        if (
            self.state in (State.PARTING, State.ENDED)
            or self._hung_up_seconds is not None
            or playback.is_held
            or not filler.is_due(playback.quiet_since_seconds, now_seconds)
            or not playback.all_heard(now_seconds)
        ):
            filler.stop()
            return
        playback.own_sound(filler.take(playback.ahead_seconds(now_seconds)), now_seconds)
        if not self._wakes:
            self._wakes = True
            self._out.actions.append(Wake(now_seconds + STEP_SECONDS))

    def _fail(self, ending: Ending, code: int, message: str, now_seconds: float) -> None:
        """Take the way out of a call that cannot go on, or end the call where there is none."""
        if (
            not (self._announcements.sentence or self._announcements.extension)
            or self.state in (State.AWAITING_INIT, State.PARTING)
            or self._away_since is not None
            or self._hung_up_seconds is not None
            or self._orders.has_transferred
        ):
            self._end(ending, code, message)
            return
        if self.state is State.ENDED:
            return
        self._close_assignments(message)
        self._move = self._place_again_seconds = None
        self._audio.clear()
        # It is published, and taken out of Redis, though no worker may ever have had it.
        self.epoch = max(self.epoch, 1)
        self._held_epoch = max(self._held_epoch, 1)
        self.worker_id = ""
        self.state = State.PARTING
        self._parting = Parting(self._announcements.sentence, ending, code, message, now_seconds)
        self._out.actions.append(Publish())
        self._playback.lost(now_seconds)
        self._part(self._parting, now_seconds)

    def _part(self, parting: Parting, now_seconds: float) -> None:
        """Go on with the way out: orders of the agent's, the sentence, the transfer, the end."""
        if parting.is_over or parting.is_transferring or self._orders.is_busy:
            return
        if self._hung_up_seconds is not None:
            return
        playback = self._playback
        if now_seconds - parting.since_seconds < self._limits.order_seconds:
            if playback.is_held:
                return
            playback.own_sound(parting.take(playback.ahead_seconds(now_seconds)), now_seconds)
            if not parting.is_said or not playback.all_heard(now_seconds):
                return
            if playback.ended_seconds + CORE_BUFFER_SECONDS > now_seconds:
                return
        elif playback.is_held:
            self._end(parting.ending, parting.code, parting.message)
            return
        extension = self._announcements.extension
        if extension:
            parting.is_transferring = True
            self._out.actions.append(TransferAway(extension, self._announcements.context))
        else:
            parting.outcome = FallbackOutcome.ENDED
            self._end(parting.ending, parting.code, parting.message)

    def transferred_away(self, outcome: FallbackOutcome, now_seconds: float) -> None:
        """Take note of what became of the transfer of a call that could not go on."""
        parting = self._parting
        assert parting is not None
        parting.outcome = outcome
        parting.is_transferring = False
        if self.state is State.ENDED:
            # AVR Core closes as soon as Asterisk has the call elsewhere, which may be before avr-ami answers.
            self._out.actions.append(TookWayOut(outcome, parting.message))
        elif outcome is FallbackOutcome.TRANSFERRED:
            self._hung_up_seconds = now_seconds
            self._end_lost_caller()
        else:
            self._end(parting.ending, parting.code, parting.message)

    # Ends

    def _end(self, ending: Ending, code: int, message: str) -> None:
        if self.state is State.ENDED:
            return
        if message:
            self._out.actions.append(Complain(message))
        self._out.actions.append(CloseCaller(code, message))
        self._finish(ending, message)

    def _finish(self, ending: Ending, reason: str) -> None:
        if self.state is State.ENDED:
            return
        # The session may be the one that the caller came back to, at another dispatcher.
        self._close_assignments(reason, keep=ending is Ending.MOVED)
        if self.epoch and ending is not Ending.MOVED:
            self._out.actions.append(Unpin(self.epoch))
        self.state = State.ENDED
        self._audio.clear()
        parting = self._parting
        if parting is not None:
            # However it ends now, it failed for the reason for which it took the way out.
            ending = parting.ending if ending is not Ending.MOVED else ending
            reason = parting.message if reason in ("", parting.message) else f"{parting.message}; {reason}"
            if not parting.is_transferring:
                self._out.actions.append(TookWayOut(parting.outcome, parting.message))
        self._out.actions.append(Ended(ending, reason))

    def _close_assignments(self, reason: str, *, keep: bool = False) -> None:
        """Close the sessions; or keep the one that has the call, or had it last, for another dispatcher."""
        for assignment in self._assignments:
            self._close_assignment(assignment, reason, keep=keep and assignment is not self._next)
        self._assignment = self._next = self._resting = None

    def _close_assignment(self, assignment: Assignment, reason: str, *, keep: bool = False) -> None:
        self._out.record(assignment, wire.Close(reason, keep))
        self._out.actions.append(LeaveChannel(assignment))

    @property
    def _assignments(self) -> list[Assignment]:
        return [
            assignment for assignment in (self._assignment, self._next, self._resting) if assignment is not None
        ]

    def _leave_resting(self) -> None:
        if self._resting is not None:
            self._out.actions.append(LeaveChannel(self._resting))
            self._resting = None

    def _leave_assignment(self) -> None:
        if self._assignment is not None:
            self._out.actions.append(LeaveChannel(self._assignment))
            self._assignment = None

    def _expect(self, event: str, *states: State) -> None:
        if self.state not in states:
            raise LinkProtocolError(f"{event} in state {self.state}")

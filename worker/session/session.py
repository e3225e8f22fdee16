"""A call's Realtime session, Sans-I/O: it takes events and the time, and returns actions.

The session owns the caller's audio and keys, the replies, the tools, and the conversation. The dispatcher stores
the conversation item by item. If the Realtime connection is lost, or reaches its time limit, the session releases
the call. Another session continues the call from that memory (a `Checkpoint`). A standby session replays the
memory to the model and waits, with responses off.

`Session` gives each event to the object that handles it:

    states.py, lifecycle.py   the states, their transitions, and the ends
    opening.py                attempts to connect and to set up the session
    caller_side.py, keypad.py speech, turns and keys on their way to the model
    secret_keys.py            keys on their way to a tool, past the model
    typed_text.py             text that a person types in place of speaking
    realtime_events.py        the handler of each type of the API's events
    item_events.py            the API's events of items, transcripts and rate limits
    response_events.py        responses, tools and errors
    restore.py                the restoring of a call from another session
    time_limits.py            the call's length, and silence
    hand_over.py              the hand-over of the call to another session
    commands.py               commands of the calls API
    parts.py                  the parts that all of these share
"""

from __future__ import annotations

from typing import Any

from common.audio import g711
from common.errors import UpstreamError
from common.link import wire
from common.link.wire import EndReason, Kind, Outcome, Reason
from worker.audio.resample import Upsampler
from worker.config.session_config import SessionConfig
from worker.realtime.upstream_limits import UpstreamLimits
from worker.session.actions import Action, Metric
from worker.session.agent.awaiting import AwaitingReport
from worker.session.agent.response_scheduler import AnswerKind
from worker.session.caller.caller_side import CallerSide
from worker.session.caller.keypad import Keypad
from worker.session.caller.secret_keys import SecretKeys
from worker.session.caller.typed_text import TypedText
from worker.session.commands import Commands
from worker.session.hand_over import HandOver
from worker.session.hang_up import HangUp
from worker.session.item_events import ItemEvents
from worker.session.lifecycle import Lifecycle
from worker.session.memory.checkpoint import Checkpoint
from worker.session.memory.conversation import Conversation
from worker.session.opening import SessionOpening
from worker.session.parts import SessionParts
from worker.session.realtime_events import RealtimeEvents
from worker.session.response_events import ResponseEvents
from worker.session.restore import Restore
from worker.session.states import SessionEvent, State
from worker.session.time_limits import TimeLimits
from worker.tools.entries import KeyRequest


class Session:
    """Session of one call. Methods are events; their actions collect in `actions`.

    All times are seconds of one monotonic clock.
    """

    def __init__(
        self,
        opening: wire.Open,
        config: SessionConfig,
        now_seconds: float,
        checkpoint: Checkpoint | None = None,
        *,
        limits: UpstreamLimits | None = None,
    ) -> None:
        """Open a session for a call.

        Args:
            opening: the dispatcher's OPEN.
            config: the configuration of the session.
            now_seconds: the time.
            checkpoint: the call's memory, if there is one.
            limits: limits that all calls of the process share; by default the session has its own.
        """
        self.parts = SessionParts(opening, config, limits or UpstreamLimits(), now_seconds)
        self._life = Lifecycle(self.parts)
        self._time_limits = TimeLimits(self.parts, self._life, now_seconds - opening.age_seconds)
        self._opening = SessionOpening(self.parts, self._life, opening, now_seconds)
        items = ItemEvents(self.parts)
        self._caller = CallerSide(self.parts, items, opening.position_samples)
        self._keypad = Keypad(self.parts, self._life)
        self._typed = TypedText(self.parts)
        self._secret_keys = SecretKeys(self.parts, self._life, self._keypad, is_offered=opening.collects)
        self._responses = ResponseEvents(self.parts, self._life, self._caller)
        self._commands = Commands(self.parts, self._life)
        self._hand_over = HandOver(self.parts, self._life)
        self._awaiting = AwaitingReport(self.parts, self._life, is_wanted=opening.filler)
        self._restore = Restore(
            self.parts,
            self._life,
            caller=self._caller,
            keypad=self._keypad,
            awaiting=self._awaiting,
            checkpoint=checkpoint or Checkpoint(),
        )
        self._events = RealtimeEvents(
            self.parts,
            self._life,
            caller=self._caller,
            hand_over=self._hand_over,
            items=items,
            opening=self._opening,
            responses=self._responses,
            restore=self._restore,
        )
        self._opening.begin(opening.delay_seconds, now_seconds)

    @property
    def uuid(self) -> str:
        """The uuid of the call."""
        return self.parts.uuid

    @property
    def epoch(self) -> int:
        """The epoch of the dispatcher that has the call."""
        return self.parts.ids.epoch

    @property
    def state(self) -> State:
        """The state of the session."""
        return self._life.state

    @property
    def conversation(self) -> Conversation:
        """The items of the call."""
        return self.parts.conversation

    @property
    def ignored(self) -> int:
        """Number of ignored events and records: of unknown types, or after the end."""
        return self._life.ignored

    @property
    def actions(self) -> list[Action]:
        """The actions to be carried out, in order; the shell replaces the list by an empty one."""
        return self.parts.out.actions

    @actions.setter
    def actions(self, actions: list[Action]) -> None:
        self.parts.out.actions = actions

    @property
    def requested_hang_up(self) -> HangUp | None:
        """The hang-up that this session has requested; None: no hang-up."""
        return self._life.requested_hang_up

    @property
    def is_collecting(self) -> bool:
        """Whether a tool is asking the caller for keys."""
        return self.parts.secret_entry.is_on

    @property
    def upsampler(self) -> Upsampler | None:
        """Resampler of the caller's next audio, if that audio is sent to the API at once; None: it is buffered.

        The shell resamples the audio of all calls together before `caller_audio`.
        """
        return self._caller.upsampler

    @property
    def next_position_samples(self) -> int:
        """Position of the caller's next audio."""
        return self._restore.next_position_samples

    # The Realtime connection

    def connected(self, now_seconds: float, *, repeat: bool = False) -> None:
        """Request the session on an open connection.

        Args:
            now_seconds: the time.
            repeat: the connection was opened by a repeated request; see `UpstreamLimits`.
        """
        self._opening.connected(now_seconds, repeat=repeat, muted=self._restore.checkpoint.standby)

    def connect_failed(self, error: UpstreamError, now_seconds: float) -> None:
        """Try again, or end the call, because the connection could not be opened."""
        self._opening.failed(error, now_seconds)

    def connection_lost(self, reason: str, now_seconds: float) -> None:
        """Try again, or release the call, because the connection was lost."""
        self.parts.audio.close()
        if self._life.state is State.CONFIGURING:
            self._opening.lost(reason, now_seconds)
        elif not self._life.ignores_peers():
            self.parts.out.report(Metric.UPSTREAM_ERROR, label="connection_lost")
            self.release(Reason.DROPPED, f"the connection to the Realtime API was lost: {reason}")

    def upstream_paused(self) -> None:
        """Buffer the caller's audio, because the API does not read."""
        self.parts.audio.paused()

    def upstream_writable(self, now_seconds: float) -> None:
        """Send the caller's buffered audio, because the API reads again."""
        self._caller.carry_out(self.parts.audio.writable(), now_seconds)

    def event(self, event: dict[str, Any], now_seconds: float) -> None:
        """Take an event of the Realtime API; unknown types are skipped.

        Raises:
            LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError: the event does not
                have the shape of its type. The event is dropped, and the session continues.
        """
        if self._life.ignores_peers():
            return
        try:
            self._events.take(event, now_seconds)
        finally:
            self._proceed(now_seconds)

    def _proceed(self, now_seconds: float) -> None:
        """Report the memory, request a due answer, and release a call at a quiet moment, after every event."""
        parts = self.parts
        parts.memory_writer.write()
        if self._life.state is State.LIVE:
            if parts.answers.failure:
                self._life.end(Outcome.FAILED, parts.answers.failure, EndReason.NO_ANSWER)
                return
            self._secret_keys.proceed(now_seconds)
            parts.request_due(now_seconds)
        self._awaiting.report(goes_on=self._restore.goes_on)
        self._hand_over.proceed(now_seconds)

    # The link

    def record(self, kind: int, payload: memoryview, now_seconds: float) -> None:
        """Take a record of the dispatcher; the caller's audio comes by `caller_audio`.

        Raises:
            LinkProtocolError: the record is malformed.
        """
        if self._life.ignores_peers():
            return
        parts = self.parts
        match kind:
            case Kind.CREDIT:
                parts.agent.credit(wire.decode_credit(payload))
            case Kind.PLAYOUT:
                parts.agent.playout(wire.decode_control(wire.Playout, payload), now_seconds)
                parts.agent.send_transcripts(now_seconds)
                self._caller.unmute()
            case Kind.HEARD:
                parts.agent.heard(wire.decode_control(wire.Heard, payload))
                parts.agent.send_transcripts(now_seconds)
            case Kind.DTMF:
                self._keypad.press(wire.decode_control(wire.Dtmf, payload).digit, now_seconds)
            case Kind.COLLECTING:
                self._secret_keys.muted(wire.decode_control(wire.Collecting, payload).number, now_seconds)
            case Kind.SECRET_KEY:
                key = wire.decode_control(wire.SecretKey, payload)
                self._secret_keys.press(key.number, key.digit, now_seconds)
            case Kind.TELEPHONY_DONE:
                if parts.calls.command_done(wire.decode_control(wire.TelephonyDone, payload)):
                    parts.answers.owe(AnswerKind.TOOL, now_seconds)
            case Kind.TOOL_KNOWN:
                parts.calls.confirmed(wire.decode_control(wire.ToolKnown, payload).call_id)
            case Kind.RELEASE:
                self._hand_over.permit(wire.decode_control(wire.Release, payload), now_seconds)
            case Kind.CLOSE:
                self._life.finish(Outcome.COMPLETED, wire.decode_control(wire.Close, payload).reason)
            case _:
                # Kinds of a newer release.
                self._life.ignored += 1
        self._proceed(now_seconds)

    def caller_audio(self, position_samples: int, pcm: bytes, now_seconds: float) -> None:
        """Take the caller's audio (PCM16 at 8 kHz) from this position of the call."""
        if not self._life.ignores_peers():
            self._caller.append_audio(position_samples, pcm, now_seconds)

    def typed(self, text: str, now_seconds: float) -> None:
        """Take a typed turn; ignore it unless the session is live."""
        if self._life.state is State.LIVE:
            self._typed.turn(text, now_seconds)
        self._proceed(now_seconds)

    def is_quiet(self, now_seconds: float) -> bool:
        """Return whether the session is live, and this is a quiet moment: see `SessionParts.is_quiet`."""
        return self._life.state is State.LIVE and self.parts.is_quiet(now_seconds)

    def take_call(self, checkpoint: Checkpoint, now_seconds: float, session: dict[str, Any] | None = None) -> None:
        """Take the call for which this session stands by.

        Args:
            checkpoint: the call's memory now.
            now_seconds: the time.
            session: the session object, if the calls API has changed it meanwhile.
        """
        if self._life.ignores_peers():
            return
        self._restore.load(checkpoint, session)
        if self._life.state is State.STANDBY:
            self._restore.go_live(SessionEvent.RESUMED, self._opening.started_seconds, now_seconds)
            self._proceed(now_seconds)

    def detached(self) -> None:
        """Keep the call. The link is lost, so no dispatcher could give the call to another session."""
        self._hand_over.is_detached = True

    def resumed(self) -> None:
        """Continue with the same dispatcher, whose link was restored."""
        self._hand_over.is_detached = False

    def attached(self, opening: wire.Open, now_seconds: float) -> None:
        """Report the whole state to another dispatcher, which has the call now.

        A session that has released the call reports, too. The former dispatcher may have died before another
        session got the call.
        """
        parts = self.parts
        parts.ids.epoch = opening.epoch
        self._hand_over.attached()
        parts.memory_writer.write_all()
        if self._life.state in (State.CONNECTING, State.CONFIGURING):
            # No session has heard this audio, so the dispatcher must keep it.
            for position, pcm in (*self._restore.checkpoint.audio, *parts.audio.waiting):
                parts.out.record(wire.KeptAudio(position, g711.encode_ulaw(pcm)))
        self._secret_keys.attached(is_offered=opening.collects)
        parts.agent.attached(opening.credit_bytes, now_seconds)
        parts.calls.attached()
        if self._life.requested_hang_up is not None:
            self._life.hang_up(self._life.requested_hang_up, repeat=True)
        if self._life.has_ended:
            return
        if self._life.state is State.LIVE:
            parts.out.record(wire.Ready())
        self._awaiting.begin_again(is_wanted=opening.filler)
        self._awaiting.report(goes_on=self._restore.goes_on)
        self._hand_over.ask_again(now_seconds)

    def move(self, reason: str, seconds: float, now_seconds: float) -> None:
        """Ask for another session within a time; see `HandOver.move`."""
        self._hand_over.move(reason, seconds, now_seconds)

    def release(self, reason: str, message: str) -> None:
        """End this session, and have another one continue the call."""
        self._life.release(reason, message)

    def dispatcher_lost(self) -> None:
        """End the session, because its dispatcher is lost, and the caller has not reconnected."""
        self._life.finish(Outcome.FAILED, "the dispatcher of this call was lost")

    def stopped(self, reason: str) -> None:
        """End the session, because this process ends, or cannot continue the call."""
        self._life.end(Outcome.FAILED, reason, EndReason.INTERNAL)

    # Time

    def tick(self, now_seconds: float, heard_seconds: float | None = None) -> None:
        """Check the time limits; to be called every 200 ms.

        Args:
            now_seconds: the time.
            heard_seconds: the API has read everything that was sent before this time; now, by default.
        """
        if self._life.state is State.LIVE:
            self._tick_live(now_seconds, heard_seconds)
        else:
            self._opening.tick(now_seconds)
        if not self._hand_over.is_detached:
            # Without a dispatcher no key can come, so the entry does not time out meanwhile.
            self._secret_keys.tick(now_seconds)
        self._opening.give_up_late(now_seconds)
        is_standby = self._restore.checkpoint.standby
        self._time_limits.tick(now_seconds, is_audible=self._caller.is_audible, is_standby=is_standby)
        self._proceed(now_seconds)

    def _tick_live(self, now_seconds: float, heard_seconds: float | None) -> None:
        parts = self.parts
        self._events.tick(now_seconds)
        parts.updates.tick(now_seconds)
        self._responses.tick(now_seconds)
        self._caller.end_overdue_speech(now_seconds, heard_seconds)
        parts.agent.send_transcripts(now_seconds)
        self._caller.unmute()
        self._keypad.tick(now_seconds)
        parts.memory_writer.finish_silence(
            self._caller.position_samples,
            now_seconds - self._restore.live_since_seconds,
            now_seconds,
            now_seconds if heard_seconds is None else heard_seconds,
        )
        self._hand_over.roll_over(self._opening.opened_seconds, now_seconds)

    # Tools, and the calls API

    def tool_done(self, call_id: str, output: str, now_seconds: float, *, lost: bool = False) -> None:
        """Take a tool's result. A response is requested when all tools of the model's response have results.

        Args:
            call_id: id of the model's function call.
            output: text for the model.
            now_seconds: the time.
            lost: the tool was interrupted, and its effect is unknown.
        """
        if not self._life.has_ended:
            self._responses.tool_done(call_id, output, now_seconds, lost=lost)
        self._proceed(now_seconds)

    def collect(self, number: int, wanted: KeyRequest, now_seconds: float) -> None:
        """Ask the caller for keys for a tool; a `Collected` of this number follows."""
        self._secret_keys.ask(number, wanted, now_seconds)
        self._proceed(now_seconds)

    def leave_collection(self, number: int, now_seconds: float) -> None:
        """Discard the keys for a tool that has ended."""
        self._secret_keys.leave(number)
        self._proceed(now_seconds)

    def command(self, number: int, action: str, body: dict[str, Any], now_seconds: float) -> None:
        """Carry out a command of the calls API. An `Answer` follows, at once or after the API's answer."""
        standby = self._restore.checkpoint.standby
        self._commands.carry_out(number, action, body, now_seconds, is_standby=standby)
        self._proceed(now_seconds)

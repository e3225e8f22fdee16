"""A call's Realtime session, Sans-I/O: events and the time go in, actions come out.

    CONNECTING ──connected──▶ CONFIGURING ──session.updated──┬──────────▶ LIVE ──┐
      │  ▲ │ ▲                    │  │                       └▶ STANDBY ─▶ │      ├──▶ ENDED
      │  └─┘ └──── no session ────┘  │                             │             │
      │   connect failed: again, as long as a retry can help       │             │
      └──────────────────────────────┴─────────── any end ─────────┴─────────────┘

The session owns what is between the dispatcher and the model: the caller's audio and keys on their way there, the
replies on their way back, one response at a time, its tools, and the conversation. It says what is to be
remembered of all that; when its Realtime connection is lost, or its time is over, it lets the call go, and the
call goes on in another session, which begins with that memory (a `Checkpoint`). One that is told to stand by
brings the memory to the model and waits, with responses off.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

import structlog

from common.audio import g711
from common.errors import LinkProtocolError, UpstreamError
from common.link import wire
from common.link.wire import Kind, Outcome, Reason
from common.observe.metrics import RATE_LIMITS
from worker.audio.audio_format import for_format
from worker.audio.local_vad import DEFAULT_SILENCE_MS, LocalVad, SpeechStarted
from worker.audio.resample import SAMPLE_BYTES, Upsampler
from worker.realtime.api_values import MAX_ID_CHARS, checked_id, checked_text, number_within
from worker.realtime.errors import EMPTY_COMMIT, ErrorEvent, Severity
from worker.realtime.event_repair import EventRepair
from worker.realtime.upstream_limits import UpstreamLimits
from worker.realtime.usage import Usage
from worker.session.action_queue import ActionQueue
from worker.session.actions import (
    Action,
    Answer,
    AppendAudio,
    Connect,
    Ended,
    Metric,
    Released,
    Transcribed,
    Used,
)
from worker.session.agent_speech import AgentSpeech
from worker.session.answering import CONTINUE_NOTE, Answering, Ending, ending_of
from worker.session.caller_audio import CallerAudio, Dropped, Step
from worker.session.checkpoint import Checkpoint
from worker.session.conversation import TRANSCRIPT_WAIT_SECONDS, Conversation, Item, ItemKind, Role
from worker.session.digits import DigitEntry
from worker.session.function_calls import FunctionCalls
from worker.session.memory_writer import MemoryWriter
from worker.session.plan import Plan
from worker.session.replay import Replay
from worker.session.response_scheduler import METADATA_KEY, AnswerKind, SchedulerState
from worker.session.session_updates import UPDATE_SECONDS, SessionUpdates, UpdateKind
from worker.session.silence_clock import SilenceClock
from worker.session.speech_watch import SpeechWatch, WatchState, allowed_silence_seconds

RETRY_FIRST_SECONDS = 0.5
RETRY_MOST_SECONDS = 3.0
# An attempt that began in time may take so much longer than UPSTREAM_RETRY_SECONDS.
LAST_ATTEMPT_SECONDS = 4.0
# Counted in place of usage with figures that cannot be true.
BAD_USAGE = "bad_usage"
# Counted for an event, or a number in one, that cannot be understood.
BAD_EVENT = "bad_event"
# A position in the audio of a session is within a day, and the end of a turn is told within this time.
MAX_POSITION_MS = 86_400_000
MAX_LATE_SECONDS = 60.0
# Requests, tokens, and seconds until there are more: no account has so many.
MAX_LIMIT = 1e12
# The limits of the process did not allow an attempt (`worker/session/session_runner.py`).
HELD_BACK = "held_back"
# A session that is asked for a move lets go by itself when so much of its allowed time is over: 59 of 55 minutes.
FORCE_AT = 59 / 55
# Of a session's own limit (`expires_at`), the part after which it is replaced: 55 of 60 minutes.
ROLLOVER_PART = 55 / 60
# And not before the other session had the time to be made, where the allowed time is set to seconds.
ROLLOVER_LEAST_SECONDS = 5.0
# The API has read nothing for so long; it is asked every 2 s (`worker/realtime/connection.py`).
API_STALLED_SECONDS = 4.0
HANG_UP_ORDER = "hang-up"
# The reason of a hang-up that the dispatcher knows from a session on another worker.
ORDERED_BEFORE = "an earlier session ordered it"
# Sayings of the calls API that wait for their turn.
MAX_WAITING_SAYINGS = 16
# Turns whose answer was noted; the API reports the end of a turn in two events.
MAX_TURNS_KNOWN = 16

MISSED_WORDS_NOTE = (
    "[The line was disturbed for a moment. The caller's last words may be missing here. "
    "Say briefly that you missed the last words, and ask the caller to repeat them.]"
)


class State(Enum):
    """Where a session is."""

    CONNECTING = "connecting"
    CONFIGURING = "configuring"
    STANDBY = "standby"
    LIVE = "live"
    ENDED = "ended"


class Session:
    """One call's session. Methods are events; what is to be done collects in `actions`.

    All times are seconds of one monotonic clock.
    """

    def __init__(
        self,
        opening: wire.Open,
        plan: Plan,
        now_seconds: float,
        checkpoint: Checkpoint | None = None,
        *,
        limits: UpstreamLimits | None = None,
    ) -> None:
        """Open a session for a call.

        Args:
            opening: the dispatcher's OPEN.
            plan: the call's settings.
            now_seconds: when.
            snapshot: the call's memory, where it has one.
            limits: those that the process shares; its own, by default.
        """
        self.uuid = opening.uuid
        self.epoch = opening.epoch
        self.state = State.CONNECTING
        self.conversation = Conversation()
        self._out = ActionQueue(opening.uuid)
        self._log = structlog.get_logger().bind(uuid=opening.uuid)
        self._plan = plan
        self._checkpoint = checkpoint or Checkpoint()
        self._began_seconds = now_seconds - opening.age_seconds
        self._started_seconds = now_seconds - opening.waited_seconds
        self._configuring_since = 0.0
        self._live_since = 0.0
        self._opened_seconds = now_seconds
        self._rollover_seconds = plan.rollover_seconds
        self._attempts = 0
        self._is_repeat = False
        self._last_error = ""
        self._limits = limits or UpstreamLimits()
        self._silence = SilenceClock(now_seconds)
        self._hang_up_reason = ""
        self._move_reason = ""
        self._release_at: float | None = None
        self._may_release = False
        self._is_detached = False
        self._items_made = 0
        # Caller → model
        audio_format = for_format(plan.audio_format)
        vad = None
        if plan.local_silence_ms is not None:
            vad = LocalVad(threshold=plan.local_threshold, silence_ms=plan.local_silence_ms)
        self._audio = CallerAudio(audio_format.uplink(), vad, plan.local_prefix_ms)
        self._audio.input_muted = plan.welcome is not None and not plan.welcome_interruptible
        self._local_turns = vad is not None
        self._local_silence_seconds = (plan.local_silence_ms or 0) / 1000
        self._watch = SpeechWatch(allowed_silence_seconds(_turn_detection(plan.session)))
        self._turns_known: deque[str] = deque(maxlen=MAX_TURNS_KNOWN)
        self._commits_here = 0
        self._words_lost = False
        self._credit_due_bytes = 0
        self._digits = DigitEntry(plan.digits_seconds)
        self._keys = 0
        self._early_keys: list[str] = []
        self._span: tuple[int, int] | None = None
        self._position_samples = opening.position_samples
        self._memory_writer = MemoryWriter(self.conversation, self._audio, self._out)
        # Model → caller
        self._replay = Replay(self.conversation, self._out, audio_format.uplink)
        self._repair = EventRepair(self._replay.brought)
        self._agent = AgentSpeech(opening, audio_format, self.conversation, self._out, self._replay)
        self._answers = Answering(
            plan,
            self._limits,
            uuid=opening.uuid,
            agent=self._agent,
            replay=self._replay,
            outbox=self._out,
            new_id=self._new_id,
        )
        self._speech_ended_seconds: float | None = None
        self._calls = FunctionCalls(
            self.conversation,
            replay=self._replay,
            agent=self._agent,
            memory_writer=self._memory_writer,
            outbox=self._out,
            new_id=self._new_id,
            uuid=opening.uuid,
            transfers=plan.transfers,
            built_in=plan.built_in,
        )
        self._updates = SessionUpdates(plan, self._out, opening.uuid)
        self._wants_awaiting = opening.filler
        self._awaiting = False
        self._changed_session: dict[str, Any] | None = None
        self._broke_off = False
        self._goes_on = self._load(self._checkpoint)
        if now_seconds - self._started_seconds > plan.retry_seconds:
            self._end(Outcome.FAILED, f"no Realtime session lasted, for {plan.retry_seconds:g} s")
        else:
            self._out.actions.append(Connect(opening.delay_seconds))

    @property
    def actions(self) -> list[Action]:
        """What is to be done, in order; whoever does it puts an empty list in its place."""
        return self._out.actions

    @actions.setter
    def actions(self, actions: list[Action]) -> None:
        self._out.actions = actions

    # The Realtime connection

    def connected(self, now_seconds: float, *, repeat: bool = False) -> None:
        """The connection is open: ask for the session.

        Args:
            now_seconds: when.
            repeat: the connection was opened by a repeated request; see `UpstreamLimits`.
        """
        self._expect("connected", State.CONNECTING)
        self._is_repeat = repeat
        self.state = State.CONFIGURING
        self._configuring_since = self._opened_seconds = now_seconds
        self._updates.open(now_seconds, muted=self._checkpoint.standby)

    def connect_failed(self, error: UpstreamError, now_seconds: float) -> None:
        """The connection could not be opened."""
        if self.state is State.ENDED:
            return
        self._expect("connect_failed", State.CONNECTING)
        self._out.report(Metric.UPSTREAM_ERROR, label=error.code)
        self._updates.lost()
        self._last_error = str(error)
        delay = min(RETRY_FIRST_SECONDS * 2**self._attempts, RETRY_MOST_SECONDS)
        delay = max(delay, error.retry_after_seconds or 0.0)
        self._attempts += 1
        if error.retryable and error.code != HELD_BACK:
            self._limits.failed(now_seconds, error.retry_after_seconds)
        if not error.retryable:
            self._end(Outcome.FAILED, str(error))
        elif now_seconds + delay - self._started_seconds > self._plan.retry_seconds:
            waited = f"after {self._attempts} attempts in {self._plan.retry_seconds:g} s"
            self._end(Outcome.FAILED, f"no Realtime session {waited}: {error}")
        else:
            self._log.warning("upstream refused", reason=str(error), code=error.code, retry_in_seconds=delay)
            self._out.actions.append(Connect(delay))

    def connection_lost(self, reason: str, now_seconds: float) -> None:
        """The connection that was open is gone."""
        self._audio.close()
        if self.state is State.CONFIGURING:
            self.state = State.CONNECTING
            message = f"the connection to the Realtime API was lost before there was a session: {reason}"
            self.connect_failed(UpstreamError(message, code="connection_lost", retryable=True), now_seconds)
        elif self.state is not State.ENDED:
            self._out.report(Metric.UPSTREAM_ERROR, label="connection_lost")
            self.release(Reason.DROPPED, f"the connection to the Realtime API was lost: {reason}")

    def upstream_paused(self) -> None:
        """The API does not read: the caller's audio waits."""
        self._audio.paused()

    def upstream_writable(self, now_seconds: float) -> None:
        """The API reads again."""
        self._listen(self._audio.writable(), now_seconds)

    def event(self, event: dict[str, Any], now_seconds: float) -> None:
        """An event of the Realtime API; unknown types are skipped.

        Raises:
            LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError: the event has not
                the shape of its type. It is lost, and the session goes on.
        """
        if self.state is State.ENDED:
            return
        try:
            for each in self._repair.feed(self._plan.dialect.from_wire(event), now_seconds):
                self._handle(each, now_seconds)
        finally:
            self._proceed(now_seconds)

    def _handle(self, event: dict[str, Any], now_seconds: float) -> None:
        handler = _HANDLERS.get(event["type"])
        if self.state is not State.ENDED and handler is not None:
            if "response_id" in event:
                self._answers.progress(event["response_id"], now_seconds)
            handler(self, event, now_seconds)

    def _proceed(self, now_seconds: float) -> None:
        """What follows whatever has happened."""
        self._memory_writer.write()
        if self.state is State.LIVE:
            if self._answers.lost_hope:
                self._end(Outcome.FAILED, self._answers.lost_hope)
                return
            self._pursue(now_seconds)
        self._tell_awaiting()
        self._release_when_quiet(now_seconds)

    def _pursue(self, now_seconds: float) -> None:
        """Ask for the answer that is due."""
        self._answers.pursue(
            now_seconds, caller_speaks=self._memory_writer.speaking, caller_keys=self._digits.is_open
        )

    def _tell_awaiting(self) -> None:
        """Tell the dispatcher whether the caller waits for something to hear."""
        if not self._wants_awaiting:
            return
        if self.state is State.LIVE:
            waits = (self._answers.responses.owes or self._calls.any_open) and not self._memory_writer.speaking
        else:
            waits = self.state is not State.STANDBY and (self._goes_on or self.conversation.last() is None)
        if waits != self._awaiting and self.state is not State.ENDED:
            self._awaiting = waits
            self._out.record(wire.Awaiting(waits))

    # The link

    def record(self, kind: int, payload: memoryview, now_seconds: float) -> None:
        """A record of the dispatcher; caller's audio comes by `caller_audio`.

        Raises:
            LinkProtocolError: it cannot be understood.
        """
        if self.state is State.ENDED:
            return
        match kind:
            case Kind.CREDIT:
                self._agent.credit(wire.decode_credit(payload))
            case Kind.PLAYOUT:
                self._agent.playout(wire.decode_control(wire.Playout, payload), now_seconds)
                self._agent.send_transcripts(now_seconds)
                self._listen_again()
            case Kind.HEARD:
                self._agent.heard(wire.decode_control(wire.Heard, payload))
                self._agent.send_transcripts(now_seconds)
            case Kind.DTMF:
                self._key(wire.decode_control(wire.Dtmf, payload).digit, now_seconds)
            case Kind.TELEPHONY_DONE:
                if self._calls.order_done(wire.decode_control(wire.TelephonyDone, payload)):
                    self._answers.owe(AnswerKind.TOOL, now_seconds)
            case Kind.TOOL_KNOWN:
                self._calls.known(wire.decode_control(wire.ToolKnown, payload).call_id)
            case Kind.RELEASE:
                release = wire.decode_control(wire.Release, payload)
                self._release_at = min(now_seconds + release.seconds, self._release_at or float("inf"))
                self._may_release = not release.revoked
            case Kind.CLOSE:
                self._finish(Outcome.COMPLETED, wire.decode_control(wire.Close, payload).reason)
            case _:
                # Kinds of a newer release.
                pass
        self._proceed(now_seconds)

    def go(self, checkpoint: Checkpoint, now_seconds: float, session: dict[str, Any] | None = None) -> None:
        """The session that stood by has the call now: what it was given before may have changed since.

        Args:
            snapshot: the call's memory now.
            now_seconds: when.
            session: what the session is to be, if the calls API has changed it meanwhile.
        """
        if self.state is State.ENDED:
            return
        self._checkpoint = checkpoint
        self._changed_session = session
        self._goes_on = self._load(checkpoint)
        if self.state is State.STANDBY:
            self._go_live(now_seconds)
            self._proceed(now_seconds)

    def detached(self) -> None:
        """The link is gone: nobody could give the call to another session now."""
        self._is_detached = True

    def resumed(self) -> None:
        """The same dispatcher is back."""
        self._is_detached = False

    def attached(self, opening: wire.Open, now_seconds: float) -> None:
        """Another dispatcher has the call, as the one before is gone: tell it everything.

        A session that released its call does so, too: the dispatcher that is gone may not have passed it on.
        """
        self.epoch = opening.epoch
        # The session that stood by, and the permission to release the call to it, were the other dispatcher's.
        self._is_detached = self._may_release = False
        self._memory_writer.write_all()
        if self.state in (State.CONNECTING, State.CONFIGURING):
            # The caller's audio that no session has heard is the dispatcher's to keep.
            for position, pcm in (*self._checkpoint.audio, *self._audio.waiting):
                self._out.record(wire.KeptAudio(position, g711.encode_ulaw(pcm)))
        self._agent.attached(opening.credit_bytes, now_seconds)
        self._calls.attached()
        if self._hang_up_reason:
            self._hang_up(self._hang_up_reason, repeat=True)
        if self.state is State.ENDED:
            return
        if self.state is State.LIVE:
            self._out.record(wire.Ready())
        self._wants_awaiting, self._awaiting = opening.filler, False
        self._tell_awaiting()
        if self._move_reason:
            self._ask_for_move(self._move_reason, (self._release_at or now_seconds) - now_seconds)

    @property
    def hang_up_reason(self) -> str:
        """Why this session has ordered a hang-up; empty: it has not."""
        return self._hang_up_reason

    @property
    def upsampler(self) -> Upsampler | None:
        """What resamples the caller's audio that comes next, if that goes upstream at once."""
        return self._audio.upsampler

    @property
    def next_position_samples(self) -> int:
        """The position of the caller's audio that is to come next."""
        ends = (position + len(pcm) // SAMPLE_BYTES for position, pcm in self._checkpoint.audio)
        return max(self._position_samples, *ends, 0)

    def move(self, reason: str, seconds: float, now_seconds: float) -> None:
        """Ask for another session within a time; release the call by itself after that time.

        A drain replaces a rollover that waits, because this worker ends sooner than the session.
        """
        if self.state is State.ENDED or self._move_reason in (reason, Reason.DRAIN):
            return
        self._release_at = min(now_seconds + seconds, self._release_at or float("inf"))
        self._ask_for_move(reason, seconds)

    def dispatcher_lost(self) -> None:
        """The dispatcher is gone, and the caller did not come back."""
        self._finish(Outcome.FAILED, "the dispatcher of this call was lost")

    def stopped(self, reason: str) -> None:
        """This process ends, or cannot go on with the call."""
        self._end(Outcome.FAILED, reason)

    # Time

    def tick(self, now_seconds: float, heard_seconds: float | None = None) -> None:
        """Look at the clocks; meant to be called every 200 ms.

        Args:
            now_seconds: when.
            heard_seconds: what was sent to the API before this time has been read there; now, by default.
        """
        if self.state is State.CONFIGURING and now_seconds - self._configuring_since >= UPDATE_SECONDS:
            self.state = State.CONNECTING
            message = f"the Realtime API did not set up the session within {UPDATE_SECONDS:g} s"
            self.connect_failed(UpstreamError(message, code="no_session", retryable=True), now_seconds)
        elif self.state is State.LIVE:
            for event in self._repair.tick(now_seconds):
                self._handle(event, now_seconds)
            self._updates.tick(now_seconds)
            silent = self._answers.tick(now_seconds, caller_speaks=self._memory_writer.speaking)
            if silent is not None:
                self._give_up_response(*silent, now_seconds)
            for item_id in self._calls.overdue_elsewhere(now_seconds):
                self._log.warning("remote tool without an end", effect="it is not waited for any longer")
                self._remote_tool_ended(item_id, now_seconds)
            # An API that does not read cannot know of the silence.
            reads = heard_seconds is None or now_seconds - heard_seconds < API_STALLED_SECONDS
            if reads and self._watch.is_overdue(now_seconds):
                self._log.warning("speech without an end", effect="the turn is ended here")
                self._end_speech(now_seconds)
            self._agent.send_transcripts(now_seconds)
            self._listen_again()
            if (entry := self._digits.tick(now_seconds)) is not None:
                self._entered(entry, now_seconds)
            self._memory_writer.finish_silence(
                self._position_samples,
                now_seconds - self._live_since,
                now_seconds,
                now_seconds if heard_seconds is None else heard_seconds,
            )
            self._look_after_session(now_seconds)
        if self.state in (State.CONNECTING, State.CONFIGURING):
            allowed_seconds = self._plan.retry_seconds + LAST_ATTEMPT_SECONDS
            if now_seconds - self._started_seconds >= allowed_seconds:
                cause = f": {self._last_error}" if self._last_error else ""
                self._end(Outcome.FAILED, f"no Realtime session within {allowed_seconds:g} s{cause}")
        self._look_after_call(now_seconds)
        self._proceed(now_seconds)

    def _look_after_session(self, now_seconds: float) -> None:
        """Ask for another session before the API ends this one; its clock began when it was opened."""
        age_seconds = now_seconds - self._opened_seconds
        allowed_seconds = self._rollover_seconds * self._plan.rollover_part
        if age_seconds >= allowed_seconds and not self._move_reason:
            seconds = max(ROLLOVER_LEAST_SECONDS, allowed_seconds * FORCE_AT - age_seconds)
            self.move(Reason.ROLLOVER, seconds, now_seconds)

    def _look_after_call(self, now_seconds: float) -> None:
        """End a call that is abandoned or has no end.

        A session that stands by judges nothing, because another session has the call. The silence of a transferred
        call means nothing, because its caller speaks with somebody else.
        """
        plan = self._plan
        longest_silence = None if self._calls.has_transferred else plan.silence_hangup_seconds
        if self._agent.is_unanswered:
            self._end(Outcome.FAILED, "the dispatcher does not say what was heard")
            return
        if self._memory_writer.speaking and self._watch.state is not WatchState.ALONE:
            self._silence.reset()
        waits = self._answers.responses.owes or self._calls.any_open or self._agent.is_heard
        idle = self._answers.responses.state is SchedulerState.IDLE
        self._silence.tick(now_seconds, runs=self.state is State.LIVE and idle and not waits)
        if self._checkpoint.standby:
            return
        if plan.max_call_seconds is not None and now_seconds - self._began_seconds >= plan.max_call_seconds:
            self._hang_up(f"the call is {plan.max_call_seconds:g} s long (MAX_CALL_SECONDS)")
        elif longest_silence is not None and self._silence.seconds >= longest_silence:
            self._hang_up(f"nobody has spoken for {longest_silence:g} s (SILENCE_HANGUP_SECONDS)")

    # Caller → model

    def caller_audio(self, position_samples: int, pcm: bytes, now_seconds: float) -> None:
        """The caller's audio (PCM16 at 8 kHz) from this position of the call."""
        if self.state is State.ENDED:
            return
        # All that is taken is bounded here, so credit comes back as soon as a piece of it is due.
        self._position_samples = position_samples + len(pcm) // SAMPLE_BYTES
        self._credit_due_bytes += len(pcm)
        if self._credit_due_bytes >= wire.CREDIT_STEP_BYTES:
            self._out.record(wire.Credit(self._credit_due_bytes))
            self._credit_due_bytes = 0
        if self._watch.state is not WatchState.OFF and self._watch.audio(pcm, now_seconds):
            # The API does not hear this speech begin: it still hears an earlier one.
            self._memory_writer.spoke(True)
            self._barge_in()
        self._listen(self._audio.audio(position_samples, pcm), now_seconds)

    def _listen(self, steps: Iterable[Step], now_seconds: float) -> None:
        for step in steps:
            if isinstance(step, AppendAudio):
                self._out.actions.append(step)
            elif isinstance(step, Dropped):
                self._out.report(Metric.CALLER_AUDIO_DROPPED_SECONDS, step.seconds)
                self._words_lost = True
            elif isinstance(step, SpeechStarted):
                self._memory_writer.spoke(True)
                self._barge_in()
            else:
                self._end_speech(now_seconds, silence_seconds=self._local_silence_seconds)

    def _end_speech(self, now_seconds: float, *, silence_seconds: float = 0.0) -> None:
        """The caller has stopped speaking, as our own detector finds: the turn is committed from this side."""
        self._memory_writer.spoke(False)
        self._speech_ended_seconds = now_seconds - silence_seconds
        self._commits_here += 1
        self._out.upstream({"type": "input_audio_buffer.commit"})
        self._answers.turn(now_seconds, since_seconds=self._speech_ended_seconds, api_answers=False)
        self._pursue(now_seconds)

    def _listen_again(self) -> None:
        """The welcome message that must not be interrupted has been heard, or will not be."""
        responses = self._answers.responses
        greets = any(answer.kind is AnswerKind.GREETING and not answer.repeats for answer in responses.owed)
        idle = responses.state is SchedulerState.IDLE
        if self._audio.input_muted and idle and not greets and not self._agent.is_heard:
            self._audio.input_muted = False

    def _key(self, digit: str, now_seconds: float) -> None:
        """A key stops the agent like a word does; what is keyed is one message when it is complete."""
        self._silence.reset()
        if self.state is not State.LIVE:
            # There is nobody to tell yet; the dispatcher keeps no more of them than this.
            self._early_keys.append(digit)
            return
        if not self._digits.is_open and not self._audio.input_muted:
            self._barge_in()
        self._keys += 1
        if (entry := self._digits.press(digit, now_seconds)) is not None:
            self._entered(entry, now_seconds)

    def _entered(self, entry: str, now_seconds: float) -> None:
        self._out.happened("digits", digits=entry)
        text = f"[The caller pressed these keys on the telephone: {entry}]"
        self._replay.add(self._new_id(), text=text)
        # The `#` that ended it is a key, too.
        self._out.record(wire.Keyed(self._keys))
        self._keys = 0
        self._answers.responses.settle(
            [answer for answer in self._answers.responses.owed if answer.kind is AnswerKind.GREETING]
        )
        self._answers.owe(AnswerKind.KEYS, now_seconds)

    def _barge_in(self) -> None:
        """The caller interrupts, and the service does not know: cancel the response, drop what was not heard."""
        self._answers.cancel()
        self._agent.flush()

    # Events of the API

    def _session_updated(self, event: dict[str, Any], now_seconds: float) -> None:
        kind = self._updates.updated(event.get("session"), now_seconds)
        if self.state is State.CONFIGURING and kind is UpdateKind.OPENING:
            self._limits.succeeded(now_seconds, repeat=self._is_repeat)
            if self._checkpoint.standby:
                self.state = State.STANDBY
                self._replay.bring([])
                self._out.record(wire.Ready(standby=True))
            else:
                self._go_live(now_seconds)
                self._answers.has_waited(now_seconds - self._started_seconds)
        elif kind in (UpdateKind.COMMAND, UpdateKind.OWN):
            self._find_turns_as_asked(now_seconds)

    def _find_turns_as_asked(self, now_seconds: float) -> None:
        """Find the caller's turns on this side, or leave them to the API, if the calls API has changed that."""
        local = self._updates.finds_no_turns
        if local == self._local_turns:
            return
        self._local_turns = local
        silence_ms = self._plan.silence_ms or DEFAULT_SILENCE_MS
        self._local_silence_seconds = silence_ms / 1000
        vad = LocalVad(threshold=self._plan.local_threshold, silence_ms=silence_ms) if local else None
        self._watch.ended()
        self._listen(self._audio.find_turns(vad), now_seconds)
        if self._memory_writer.speaking:
            # The end of this speech would be reported by nobody.
            self._end_speech(now_seconds)

    def _session_created(self, event: dict[str, Any], now_seconds: float) -> None:
        """The session says when it ends: after 60 minutes at OpenAI, after 30 at xAI."""
        lasts_seconds = event.get("lasts_seconds")
        if isinstance(lasts_seconds, float) and lasts_seconds > 0:
            self._rollover_seconds = min(self._plan.rollover_seconds, lasts_seconds * ROLLOVER_PART)

    def _rate_limits(self, event: dict[str, Any], now_seconds: float) -> None:
        for limit in event["rate_limits"]:
            if not isinstance(limit, dict):
                self._out.report(Metric.UPSTREAM_ERROR, label=BAD_EVENT)
                continue
            if limit.get("name") not in RATE_LIMITS or limit.get("remaining") is None:
                continue
            remaining = self._number(limit["remaining"], MAX_LIMIT)
            if remaining is None:
                continue
            self._out.report(Metric.RATE_LIMIT_REMAINING, remaining, limit["name"])
            if remaining == 0:
                reset_seconds = self._number(limit.get("reset_seconds", 0.0), MAX_LIMIT)
                if reset_seconds is not None:
                    self._limits.rate_limited(reset_seconds, now_seconds)

    def _number(self, value: object, most: float) -> float | None:
        """Return a number of the API from 0 to `most`; None, which is counted, if it cannot be true."""
        number = number_within(value, 0, most)
        if number is None:
            self._out.report(Metric.UPSTREAM_ERROR, label=BAD_EVENT)
        return number

    def _speech_started(self, event: dict[str, Any], now_seconds: float) -> None:
        self._memory_writer.spoke(True)
        if not self._local_turns:
            self._watch.began(now_seconds)
        start_ms = self._number(event.get("audio_start_ms") or 0, MAX_POSITION_MS)
        self._audio.turns.started(event["item_id"], start_ms or 0)
        self._silence.reset()
        self._speech_ended_seconds = None
        if not self._updates.interrupt_response:
            return
        active_id = self._answers.responses.active_id
        if active_id:
            # The server cancels it by itself; its late audio is not for the caller any more.
            self._agent.closed_responses.append(active_id)
        self._answers.interrupted()
        self._agent.flush()

    def _speech_stopped(self, event: dict[str, Any], now_seconds: float) -> None:
        self._memory_writer.speaking = False
        self._watch.ended()
        self._silence.reset()
        # audio_end_ms includes the silence that was waited for; what was appended since has gone by, too.
        turns = self._audio.turns
        end_ms = self._number(event.get("audio_end_ms", turns.appended_ms), MAX_POSITION_MS)
        if end_ms is None:
            end_ms = turns.appended_ms
        self._span = turns.stopped(event["item_id"], end_ms, now_seconds)
        since_end_ms = turns.appended_ms - end_ms + self._plan.silence_ms
        self._speech_ended_seconds = now_seconds - min(max(0.0, since_end_ms / 1000), MAX_LATE_SECONDS)
        self._turn_ended(event["item_id"], now_seconds)

    def _turn_ended(self, item_id: str, now_seconds: float) -> None:
        """A turn that the API found: it answers by itself, unless it was told not to."""
        if item_id in self._turns_known:
            return
        self._turns_known.append(item_id)
        ended_seconds = self._speech_ended_seconds
        since_seconds = now_seconds if ended_seconds is None else ended_seconds
        self._answers.turn(now_seconds, since_seconds=since_seconds, api_answers=self._updates.create_response)

    def _committed(self, event: dict[str, Any], now_seconds: float) -> None:
        # A speech that is committed has ended, whatever became of `speech_stopped`.
        item_id = checked_id(event["item_id"])
        if self._local_turns or self._commits_here:
            turns = self._audio.turns
            self._span = turns.stopped(item_id, turns.appended_ms, now_seconds)
        item = self._insert(item_id, Role.USER, event, now_seconds)
        item.span, self._span = self._span, None
        if self._commits_here:
            # The turn was ended from this side, and its answer is owed already.
            self._commits_here -= 1
            return
        if not self._local_turns:
            # What is finished now is remembered first.
            self._memory_writer.write()
            self._memory_writer.spoke(False)
            self._watch.ended()
        self._turn_ended(item_id, now_seconds)

    def _item_added(self, event: dict[str, Any], now_seconds: float) -> None:
        item = event["item"]
        if self._replay.brought(item["id"]):
            return
        role = None
        if item["type"] == "message":
            # What is complete when it is added is text that we put in: nobody speaks it.
            if item["role"] == "assistant" and item.get("status") != "completed":
                role = Role.AGENT
            elif any(part.get("type") == "input_audio" for part in item.get("content") or ()):
                role = Role.USER
        self._insert(item["id"], role, event, now_seconds)
        kind, speaker = str(item["type"])[:MAX_ID_CHARS], str(item.get("role") or "")[:MAX_ID_CHARS]
        self._out.happened("item", item_id=item["id"], item_type=kind, role=speaker)

    def _insert(self, item_id: str, role: Role | None, event: dict[str, Any], now_seconds: float) -> Item:
        behind = self._replay.behind(event.get("previous_item_id"))
        item = self.conversation.insert(checked_id(item_id), role, behind)
        self._replay.made(item.item_id)
        if item.role is Role.USER:
            item.waits_until_seconds = min(item.waits_until_seconds, now_seconds + TRANSCRIPT_WAIT_SECONDS)
        return item

    def _transcribed(self, event: dict[str, Any], now_seconds: float) -> None:
        self._out.actions.extend([Transcribed(event["usage"])] if event.get("usage") else [])
        item = self.conversation.get(event["item_id"])
        if item is not None and not item.text_done:
            item.text = event["transcript"].strip()
            item.text_done = True
            self.conversation.changed(item)
            finished = self._audio.turns.text_stored(item.item_id)
            if finished is not None:
                # The text is remembered before its audio is forgotten.
                self._memory_writer.write()
                self._memory_writer.finished(finished[1])
            self._agent.send_transcripts(now_seconds)

    def _transcription_failed(self, event: dict[str, Any], now_seconds: float) -> None:
        item = self.conversation.get(event["item_id"])
        if item is not None:
            item.text_done = True
            self.conversation.changed(item)
            self._agent.send_transcripts(now_seconds)
            self._audio.turns.text_failed(item.item_id)
        self._out.report(Metric.UPSTREAM_ERROR, label=ErrorEvent.from_event(event.get("error") or {}).code)

    def _response_created(self, event: dict[str, Any], now_seconds: float) -> None:
        response_id = checked_id(event["response"]["id"])
        talks_over = self._memory_writer.speaking and self._updates.interrupt_response
        metadata = event["response"].get("metadata")
        request_id = metadata.get(METADATA_KEY) if isinstance(metadata, dict) else None
        self._answers.created(response_id, now_seconds, request_id=str(request_id or ""), talks_over=talks_over)

    def _output_added(self, event: dict[str, Any], now_seconds: float) -> None:
        item = event["item"]
        self._answers.item_begun(checked_id(event["response_id"]), checked_id(item["id"]))
        if item["type"] == "mcp_call":
            response_id = checked_id(event["response_id"])
            self._calls.began_elsewhere(response_id, checked_id(item["id"]), now_seconds)
            self._answers.called(response_id, now_seconds)

    def _mcp_call_ended(self, event: dict[str, Any], now_seconds: float) -> None:
        self._remote_tool_ended(checked_id(event["item_id"]), now_seconds)

    def _remote_tool_ended(self, item_id: str, now_seconds: float) -> None:
        if self._calls.ended_elsewhere(item_id):
            self._answers.owe(AnswerKind.REMOTE_TOOL, now_seconds)

    def _mcp_tools_failed(self, event: dict[str, Any], now_seconds: float) -> None:
        self._out.report(Metric.UPSTREAM_ERROR, label="mcp_list_tools_failed")
        self._log.warning("the tools of an MCP server are not available", remedy="check OPENAI_MCP_SERVERS")

    def _approval_asked(self, item: dict[str, Any], response_id: str, now_seconds: float) -> None:
        """A tool of an MCP server wants an approval, which nobody on a telephone call can give."""
        server, request_id = str(item.get("server_label")), checked_id(item["id"])
        approve = server in self._plan.approved_servers
        self._log.warning("approval of a remote tool", server=server[:64], approved=approve)
        answer = {"type": "mcp_approval_response", "approval_request_id": request_id, "approve": approve}
        self._out.upstream({"type": "conversation.item.create", "item": {"id": self._new_id(), **answer}})
        self._answers.called(response_id, now_seconds)
        self._answers.owe(AnswerKind.REMOTE_TOOL, now_seconds)

    def _output_done(self, event: dict[str, Any], now_seconds: float) -> None:
        """An item of a response is whole; a function call is begun at once, beside what is still being said."""
        item = event["item"]
        self._answers.item_done(checked_id(event["response_id"]), checked_id(item["id"]))
        self._agent.item_done(item["id"])
        self._agent.send_transcripts(now_seconds)
        if item["type"] == "mcp_approval_request":
            self._approval_asked(item, checked_id(event["response_id"]), now_seconds)
        if item["type"] != "function_call" or item.get("status") == "incomplete":
            return
        # All of it is looked at before anything is known of it: the dispatcher and the tool are told the same.
        response_id, item_id = checked_id(event["response_id"]), checked_id(item["id"])
        call_id, name = checked_id(item["call_id"]), checked_id(item["name"])
        arguments = checked_text(item.get("arguments") or "{}")
        known = self.conversation.insert(item_id, None, event.get("previous_item_id"))
        self._replay.made(known.item_id)
        known.kind, known.call_id, known.name, known.text = ItemKind.FUNCTION_CALL, call_id, name, arguments
        self._answers.called(response_id, now_seconds)
        wanted = self._calls.called(known, response_id)
        if self._answers.responses.find(response_id) is None:
            # The response was given up, and its end may never come.
            self._calls.part(response_id)
            wanted = self._calls.response_done(response_id) or wanted
        if wanted:
            self._answers.owe(AnswerKind.TOOL, now_seconds)

    def tool_done(self, call_id: str, output: str, now_seconds: float, *, lost: bool = False) -> None:
        """A tool has its result; the model is asked for a response when all of its response's tools have.

        Args:
            call_id: of the model's call.
            output: for the model.
            now_seconds: when.
            lost: the tool was cut off, and what it did is not known.
        """
        if self.state is not State.ENDED and (
            self._calls.lost(call_id, output, self._plan.idempotent)
            if lost
            else self._calls.ended(call_id, output)
        ):
            self._answers.owe(AnswerKind.TOOL, now_seconds)
        self._proceed(now_seconds)

    def _audio_delta(self, event: dict[str, Any], now_seconds: float) -> None:
        if not self._agent.audio_delta(event):
            return
        self._answers.heard(event["response_id"], now_seconds)
        if self._speech_ended_seconds is not None:
            self._out.report(Metric.TURN_LATENCY_SECONDS, now_seconds - self._speech_ended_seconds)
            self._speech_ended_seconds = None

    def _response_done(self, event: dict[str, Any], now_seconds: float) -> None:
        response = event["response"]
        ending = ending_of(response)
        self._response_over(checked_id(response["id"]), ending, now_seconds)
        if response.get("usage"):
            self._count(response["usage"])
        if ending.error is not None:
            self._out.report(Metric.UPSTREAM_ERROR, label=ending.error.code)
            self._log.warning("response failed", code=ending.error.code, reason=ending.error.message)
            self._end_session_of(ending.error)
        elif ending.status == "incomplete":
            self._log.warning("response incomplete", reason=ending.detail)

    def _count(self, usage: object) -> None:
        try:
            self._out.actions.append(Used(Usage.from_response(usage)))
        except ValueError:
            self._out.report(Metric.UPSTREAM_ERROR, label=BAD_USAGE)

    def _response_over(self, response_id: str, ending: Ending, now_seconds: float) -> None:
        """A response is over, in whatever way: first what the call goes on by, then what it owes."""
        is_last = self._answers.responses.active_id in ("", response_id)
        self._agent.response_over(response_id, is_last=is_last)
        self._agent.send_transcripts(now_seconds)
        self._calls.part(response_id)
        self._answers.done(response_id, ending, now_seconds)
        self._agent.closed_responses.append(response_id)
        if self._calls.response_done(response_id):
            self._answers.owe(AnswerKind.TOOL, now_seconds)
        self._listen_again()

    def _give_up_response(self, response_id: str, ending: Ending, now_seconds: float) -> None:
        """A response that has failed without its `response.done`: the API may still be at it."""
        self._response_over(response_id, ending, now_seconds)
        if response_id:
            self._agent.cancel(response_id)

    def _error_event(self, event: dict[str, Any], now_seconds: float) -> None:
        """An error ends the call only where the session cannot go on."""
        error = ErrorEvent.from_event(event["error"])
        self._out.report(Metric.UPSTREAM_ERROR, label=error.code)
        if error.code == EMPTY_COMMIT:
            # No `committed` follows, so the next one is not ours.
            self._commits_here = max(0, self._commits_here - 1)
        refused = self._updates.refused(error, now_seconds)
        if refused is not True:
            self._log.warning("upstream error", code=error.code, reason=error.message)
        if self._end_session_of(error):
            return
        if isinstance(refused, str):
            self._end(Outcome.FAILED, f"the Realtime API refused the session: {refused}")
        elif not refused and self.state is State.LIVE:
            ended_id = self._answers.refused(error, now_seconds)
            if ended_id:
                self._give_up_response(ended_id, Ending.of_error(error), now_seconds)

    def _end_session_of(self, error: ErrorEvent) -> bool:
        """Whether an error has ended the session."""
        if error.severity is Severity.SESSION_OVER:
            self.release(Reason.DROPPED, error.message)
        elif error.severity is Severity.FATAL:
            self._end(Outcome.FAILED, error.message)
        return self.state is State.ENDED

    # Commands of the calls API

    def command(self, number: int, action: str, body: dict[str, Any], now_seconds: float) -> None:
        """Answered by `Answer`, at once or when the service has answered."""
        if action == "conversation":
            self._out.actions.append(Answer(number, 200, {"conversation": self.conversation.as_json()}))
        elif self.state is State.ENDED:
            self._out.actions.append(Answer(number, 404, {"error": "the session has ended"}))
        elif action == "hang_up" and self._checkpoint.standby:
            # The dispatcher ignores orders of a session that does not have the call.
            self._out.actions.append(Answer(number, 409, {"error": "another session has the call: try again"}))
        elif action == "hang_up":
            self._out.actions.append(Answer(number, 200, {}))
            self._agent.flush()
            self._hang_up("the calls API has ended the call", repeat=True)
        elif self.state is not State.LIVE:
            self._out.actions.append(Answer(number, 409, {"error": "the call has no session yet: try again"}))
        elif action == "say" and self._waiting_sayings < MAX_WAITING_SAYINGS:
            self._answers.say(AnswerKind.SAY, str(body["text"]), now_seconds)
            self._out.actions.append(Answer(number, 200, {}))
        elif action != "session" or not self._updates.change(number, body, now_seconds):
            self._out.actions.append(Answer(number, 429, {"error": "too many commands wait for this call"}))
        self._proceed(now_seconds)

    @property
    def _waiting_sayings(self) -> int:
        return sum(answer.kind is AnswerKind.SAY for answer in self._answers.responses.owed)

    def _hang_up(self, reason: str, *, repeat: bool = False) -> None:
        """Have Asterisk end the call, behind what is being said; a transferred call ends only on this side.

        Args:
            reason: for people.
            repeat: order it again. A dispatcher that knows the order ignores the second one.
        """
        if self._calls.has_transferred:
            self._end(Outcome.COMPLETED, reason)
        elif repeat or (self.state is not State.ENDED and not self._hang_up_reason):
            self._hang_up_reason = reason
            self._log.info("hanging up", reason=reason)
            order = wire.TelephonyCommand(HANG_UP_ORDER, wire.TelephonyAction.HANG_UP.value)
            self._agent.order(order)

    def _new_id(self) -> str:
        """For an item of ours."""
        self._items_made += 1
        return f"avr_{self.epoch}_{self._items_made}"

    # Going on where another session stopped

    def _load(self, checkpoint: Checkpoint) -> bool:
        """Take what is remembered for what there is; returns whether the model was about to say something."""
        if not checkpoint.reason:
            return False
        self.conversation.load(checkpoint.items)
        if checkpoint.recalled:
            # Positions in the caller's audio were those of the dispatcher that is gone.
            for item in self.conversation:
                item.span = None
        goes_on = self._broke_off = self._agent.restore(checkpoint.replies, checkpoint.first_index)
        self._agent.settle_the_rest(heard=checkpoint.recalled)
        self._memory_writer.speaking = checkpoint.speaking
        callers = any(item.role is Role.USER for item in self.conversation)
        if self.conversation.last() is not None and (callers or not self._agent.is_heard):
            # The welcome message is over, or nothing of it plays any more.
            self._audio.input_muted = False
        return goes_on or (not checkpoint.speaking and self._awaits_answer())

    def _awaits_answer(self) -> bool:
        last = self.conversation.last()
        if last is None or last.role is Role.AGENT or last.kind is ItemKind.FUNCTION_CALL:
            return False
        if last.kind is ItemKind.FUNCTION_CALL_OUTPUT:
            calls = sum(item.kind is ItemKind.FUNCTION_CALL for item in self.conversation)
            outputs = sum(item.kind is ItemKind.FUNCTION_CALL_OUTPUT for item in self.conversation)
            # One response follows the outputs of all.
            return not last.silent and outputs >= calls
        return True

    def _go_live(self, now_seconds: float) -> None:
        checkpoint, self._checkpoint = self._checkpoint, Checkpoint()
        self.state = State.LIVE
        self._live_since = now_seconds
        self._updates.unmute(now_seconds, self._changed_session)
        is_new = self.conversation.last() is None
        refed = self._forget_open_turns(checkpoint)
        for item in self.conversation:
            if item.role is Role.USER and not item.text_done:
                # It is brought as sound, of which no text will come.
                item.text_done = True
                self.conversation.changed(item)
        self._replay.bring(checkpoint.audio)
        self._log.info(
            "session live", seconds=round(now_seconds - self._started_seconds, 3), reason=checkpoint.reason or None
        )
        self._memory_writer.write()
        self._out.record(wire.Ready())
        if HANG_UP_ORDER in checkpoint.orders:
            self._hang_up_reason = checkpoint.hang_up or ORDERED_BEFORE
        elif checkpoint.hang_up:
            self._hang_up(checkpoint.hang_up)
        # The dispatcher relies on nothing that it was told before READY.
        self._awaiting = False
        self._out.happened("live")
        early, self._early_keys = self._early_keys, []
        for digit in (*checkpoint.digits, *early):
            self._key(digit, now_seconds)
        if (checkpoint.recalled or checkpoint.words_lost or self._words_lost) and not is_new:
            self._replay.add(self._new_id(), text=MISSED_WORDS_NOTE)
            self._goes_on = True
        self._words_lost = False
        for note in self._plan.notes:
            self._replay.add(self._new_id(), text=note, by_system=True)
        if is_new and not refed and self._plan.welcome is not None:
            self._answers.say(
                AnswerKind.GREETING,
                self._plan.welcome,
                now_seconds,
                interruptible=self._plan.welcome_interruptible,
            )
        elif is_new and not refed:
            self._answers.owe(AnswerKind.GREETING, now_seconds)
        # The greeting is asked for before the API hears what the caller has said meanwhile.
        self._pursue(now_seconds)
        self._hear_again(checkpoint, now_seconds)
        if self._calls.take_up(checkpoint, self._plan.idempotent):
            self._answers.owe(AnswerKind.TOOL, now_seconds)
        elif self._goes_on and not refed:
            if self._broke_off:
                self._replay.add(self._new_id(), text=CONTINUE_NOTE)
            self._answers.owe(AnswerKind.RECOVERY, now_seconds)

    def _forget_open_turns(self, checkpoint: Checkpoint) -> bool:
        """Turns without text at the end of the conversation are heard again: then they get text, and an answer."""
        forgotten = False
        first = checkpoint.audio[0][0] if checkpoint.audio else None
        while (last := self.conversation.last()) is not None and first is not None:
            is_open = last.role is Role.USER and not last.text and last.span is not None
            if not is_open or last.span is None or last.span[0] < first:
                break
            self.conversation.remove(last.item_id)
            forgotten = True
        return forgotten

    def _hear_again(self, checkpoint: Checkpoint, now_seconds: float) -> None:
        """The caller's audio behind the turns that are part of the conversation."""
        heard_until = max((item.span[1] for item in self.conversation if item.span), default=0)
        self._memory_writer.speaking = False
        kept = []
        for position, pcm in checkpoint.audio:
            skipped = max(0, heard_until - position)
            if skipped * SAMPLE_BYTES < len(pcm):
                kept.append((position + skipped, pcm[skipped * SAMPLE_BYTES :]))
            self._position_samples = max(self._position_samples, position + len(pcm) // SAMPLE_BYTES)
        self._listen(self._audio.open(kept), now_seconds)

    # Ends

    def _ask_for_move(self, reason: str, seconds: float) -> None:
        self._move_reason = reason
        self._out.record(wire.Move(reason, max(0.0, seconds)))

    def _release_when_quiet(self, now_seconds: float) -> None:
        """Let go where that was asked for: nobody speaks, nothing is under way; at the latest in time."""
        if self._release_at is None or self._is_detached or self.state is State.ENDED:
            return
        quiet = (
            self._may_release
            and self._answers.responses.state is SchedulerState.IDLE
            and not self._answers.responses.owes
            and not self._memory_writer.speaking
            and not self._agent.is_heard
            and not self._calls.any_open
            and not self._digits.is_open
            and self._updates.is_settled
            and not self._audio.turns.awaits_text(now_seconds)
        )
        if quiet or now_seconds >= self._release_at:
            self.release(self._move_reason or Reason.DRAIN, "another session goes on")

    def release(self, reason: str, message: str) -> None:
        """There is no session any more: the call goes on in another one."""
        if self.state is not State.ENDED:
            self._answers.leave_sayings()
            self._memory_writer.write()
            # Orders that wait behind unsent words: the dispatcher keeps them from here on.
            for order in self._agent.waiting_orders:
                self._out.record(order)
            self._out.record(wire.Released(reason, message))
            self._close()
            self._out.actions.append(Released(reason, message))

    def _end(self, outcome: Outcome, message: str) -> None:
        if self.state is not State.ENDED:
            self._out.record(wire.Ended(outcome.value, message))
            self._finish(outcome, message)

    def _finish(self, outcome: Outcome, reason: str) -> None:
        if self.state is not State.ENDED:
            self._close()
            self._out.actions.append(Ended(outcome, reason))

    def _close(self) -> None:
        self.state = State.ENDED
        self._audio.forget()
        self._updates.close()

    def _expect(self, event: str, *states: State) -> None:
        if self.state not in states:
            raise LinkProtocolError(f"{event} in state {self.state.value}")


Handler = Callable[[Session, dict[str, Any], float], None]
_HANDLERS: dict[str, Handler] = {
    "session.created": Session._session_created,
    "session.updated": Session._session_updated,
    "input_audio_buffer.speech_started": Session._speech_started,
    "input_audio_buffer.speech_stopped": Session._speech_stopped,
    "input_audio_buffer.committed": Session._committed,
    "conversation.item.added": Session._item_added,
    "conversation.item.input_audio_transcription.completed": Session._transcribed,
    "conversation.item.input_audio_transcription.failed": Session._transcription_failed,
    "response.created": Session._response_created,
    "response.output_audio.delta": Session._audio_delta,
    "response.output_audio.done": lambda session, event, _: session._agent.audio_done(event),
    "response.output_audio_transcript.delta": lambda session, event, _: session._agent.text_delta(event),
    "response.output_audio_transcript.done": lambda session, event, _: session._agent.text_done(event),
    "response.output_item.added": Session._output_added,
    "response.output_item.done": Session._output_done,
    "response.mcp_call.completed": Session._mcp_call_ended,
    "response.mcp_call.failed": Session._mcp_call_ended,
    "response.done": Session._response_done,
    "mcp_list_tools.failed": Session._mcp_tools_failed,
    "rate_limits.updated": Session._rate_limits,
    "error": Session._error_event,
}


def _turn_detection(session: dict[str, Any]) -> Any:
    return session.get("audio", {}).get("input", {}).get("turn_detection")

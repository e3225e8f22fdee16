"""A call's Realtime session, Sans-I/O: events and the time go in, actions come out.

    CONNECTING ──connected──▶ CONFIGURING ──session.updated──┬──────────▶ LIVE ──┐
      │  ▲ │ ▲                    │  │                       └▶ STANDBY ─▶ │      ├──▶ ENDED
      │  └─┘ └──── no session ────┘  │                             │             │
      │   connect failed: again, as long as a retry can help       │             │
      └──────────────────────────────┴─────────── any end ─────────┴─────────────┘

The session owns what is between the dispatcher and the model: the caller's audio and keys on their way there, the
replies on their way back, one response at a time, its tools, and the conversation. It says what is to be
remembered of all that; when its Realtime connection is lost, or its time is over, it lets the call go, and the
call goes on in another session, which begins with that memory (a `Snapshot`). One that is told to stand by brings
the memory to the model and waits, with responses off.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

import structlog

from common import g711, link
from common.errors import LinkProtocolError, UpstreamError
from common.link import Kind, Outcome, Reason
from worker.actions import (
    Action,
    Answer,
    Configured,
    Connect,
    Ended,
    Seen,
    ToUpstream,
    Transcribed,
    Used,
)
from worker.agent import Agent, checked_id
from worker.audio_format import for_format
from worker.caller_audio import Append, CallerAudio, Dropped, Step
from worker.conversation import TRANSCRIPT_WAIT_SECONDS, Conversation, Item, ItemKind, Role
from worker.digits import DigitEntry
from worker.function_calls import FunctionCalls
from worker.journal import Journal
from worker.local_vad import LocalVad, SpeechStarted
from worker.outbox import Outbox
from worker.plan import Plan
from worker.realtime_errors import ErrorEvent, Severity
from worker.replay import Replay
from worker.resample import SAMPLE_BYTES, Upsampler
from worker.responses import GateState, ResponseGate
from worker.snapshot import Snapshot
from worker.usage import Usage

# `session.updated` is awaited so long.
CONFIGURE_SECONDS = 10.0
RETRY_FIRST_SECONDS = 0.25
RETRY_MOST_SECONDS = 5.0
# `response.create` is answered within so long, or it is asked again.
RESPONSE_CREATED_SECONDS = 10.0
# A response of which nothing has come for so long is given up; a model that reasons may be silent for a while.
RESPONSE_SILENCE_SECONDS = 60.0
# A session that is asked for a move lets go by itself when so much of its allowed time is over: 59 of 55 minutes.
FORCE_AT = 59 / 55
# And not before the other session had the time to be made, where the allowed time is set to seconds.
ROLLOVER_LEAST_SECONDS = 5.0
HANG_UP_ORDER = "hang-up"
# What the calls API wants to be said, and changes of the session that are not yet answered.
MAX_WAITING_COMMANDS = 16

SESSION_UPDATE_ID = "session-update"
RESPONSE_CREATE_ID = "response-create"


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
        opening: link.Open,
        channel: int,
        plan: Plan,
        now_seconds: float,
        snapshot: Snapshot | None = None,
    ) -> None:
        """Open a session for a call.

        Args:
            opening: the dispatcher's OPEN.
            channel: the call's channel on the link.
            plan: the call's settings.
            now_seconds: when.
            snapshot: the call's memory, where it has one.
        """
        self.uuid = opening.uuid
        self.epoch = opening.epoch
        self.state = State.CONNECTING
        self.conversation = Conversation()
        self._out = Outbox(plan.dialect, channel, opening.uuid)
        self._log = structlog.get_logger().bind(uuid=opening.uuid)
        self._plan = plan
        self._snapshot = snapshot or Snapshot()
        self._began_seconds = now_seconds - opening.age_seconds
        self._started_seconds = now_seconds - opening.waited_seconds
        self._configuring_since = 0.0
        self._live_since = 0.0
        self._attempts = 0
        self._active_seconds = now_seconds
        self._hanging_up = False
        self._move_reason = ""
        self._release_at: float | None = None
        self._may_release = False
        self._muted = False
        self._own_updates = 0
        self._items_made = 0
        # Caller → model
        audio_format = for_format(plan.audio_format)
        vad = None
        if plan.local_silence_ms is not None:
            vad = LocalVad(threshold=plan.local_threshold, silence_ms=plan.local_silence_ms)
        self._audio = CallerAudio(audio_format.uplink(), vad, plan.local_prefix_ms)
        self._audio.is_deaf = plan.welcome is not None and not plan.welcome_interruptible
        self._local_turns = vad is not None
        self._credit_due_bytes = 0
        self._digits = DigitEntry(plan.digits_seconds)
        self._keys = 0
        self._early_keys: list[str] = []
        self._span: tuple[int, int] | None = None
        self._position_samples = opening.position_samples
        self._journal = Journal(self.conversation, self._audio, self._out)
        # Model → caller
        self._gate = ResponseGate()
        self._replay = Replay(self.conversation, self._out, audio_format.uplink)
        self._agent = Agent(opening, audio_format, self.conversation, self._out, self._replay)
        self._response_seconds = 0.0
        self._speech_ended_seconds: float | None = None
        self._calls = FunctionCalls(
            self.conversation,
            replay=self._replay,
            agent=self._agent,
            journal=self._journal,
            outbox=self._out,
            new_id=self._new_id,
        )
        # Commands of the calls API
        self._sayings: deque[list[dict[str, Any]]] = deque()
        self._updates: deque[tuple[str, int, dict[str, Any]]] = deque()
        self._goes_on = self._load(self._snapshot)
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

    def connected(self, now_seconds: float) -> None:
        """The connection is open: ask for the session."""
        self._expect("connected", State.CONNECTING)
        self.state = State.CONFIGURING
        self._configuring_since = now_seconds
        self._configure(muted=self._snapshot.standby)

    def connect_failed(self, error: UpstreamError, now_seconds: float) -> None:
        """The connection could not be opened."""
        if self.state is State.ENDED:
            return
        self._expect("connect_failed", State.CONNECTING)
        self._out.report(Seen.UPSTREAM_ERROR, label=error.code)
        delay = min(RETRY_FIRST_SECONDS * 2**self._attempts, RETRY_MOST_SECONDS)
        self._attempts += 1
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
            self._out.report(Seen.UPSTREAM_ERROR, label="connection_lost")
            self.release(Reason.DROPPED, f"the connection to the Realtime API was lost: {reason}")

    def upstream_paused(self) -> None:
        """The API does not read: the caller's audio waits."""
        self._audio.paused()

    def upstream_writable(self, now_seconds: float) -> None:
        """The API reads again."""
        self._listen(self._audio.writable(), now_seconds)

    def event(self, event: dict[str, Any], now_seconds: float) -> None:
        """An event of the Realtime API. Unknown types are passed over; a field that is missing is a KeyError."""
        if self.state is State.ENDED:
            return
        if event["type"].startswith("response."):
            self._response_seconds = self._active_seconds = now_seconds
        event = self._plan.dialect.from_wire(event)
        handler = _HANDLERS.get(event["type"])
        if handler is not None:
            handler(self, event, now_seconds)
            self._journal.write()
            self._release_when_quiet(now_seconds)

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
                self._agent.credit(link.decode_credit(payload))
            case Kind.PLAYOUT:
                self._active_seconds = now_seconds
                self._agent.playout(link.decode_control(link.Playout, payload), now_seconds)
                self._agent.send_transcripts(now_seconds)
                self._listen_again()
            case Kind.HEARD:
                self._agent.heard(link.decode_control(link.Heard, payload))
                self._agent.send_transcripts(now_seconds)
            case Kind.DTMF:
                self._key(link.decode_control(link.Dtmf, payload).digit, now_seconds)
            case Kind.ORDER_DONE:
                if self._calls.order_done(link.decode_control(link.OrderDone, payload)):
                    self._want_response(now_seconds)
            case Kind.TOOL_KNOWN:
                self._calls.known(link.decode_control(link.ToolKnown, payload).call_id)
            case Kind.RELEASE:
                release = link.decode_control(link.Release, payload)
                self._release_at = min(now_seconds + release.seconds, self._release_at or float("inf"))
                self._may_release = not release.revoked
            case Kind.CLOSE:
                self._finish(Outcome.COMPLETED, link.decode_control(link.Close, payload).reason)
            case _:
                # Kinds of a newer release.
                pass
        self._journal.write()
        self._release_when_quiet(now_seconds)

    def go(self, snapshot: Snapshot, now_seconds: float) -> None:
        """The session that stood by has the call now: what it was given before may have changed since."""
        if self.state is State.ENDED:
            return
        self._snapshot = snapshot
        self._goes_on = self._load(snapshot)
        if self.state is State.STANDBY:
            self._go_live(now_seconds)

    def attached(self, opening: link.Open, channel: int, now_seconds: float) -> None:
        """Another dispatcher has the call, as the one before is gone: tell it everything."""
        self.epoch = opening.epoch
        self._out.channel = channel
        self._journal.write_all()
        if self.state in (State.CONNECTING, State.CONFIGURING):
            # The caller's audio that no session has heard is the dispatcher's to keep.
            for position, pcm in (*self._snapshot.audio, *self._audio.waiting):
                codes = g711.encode_ulaw(pcm)
                self._out.dispatcher([link.encode_kept_audio(channel, position, codes)])
        self._agent.attached(channel, opening.credit_bytes, now_seconds)
        self._calls.attached()
        if self.state is State.LIVE:
            self._out.record(link.Ready())
        if self._move_reason:
            self._ask_for_move(self._move_reason, (self._release_at or now_seconds) - now_seconds)

    @property
    def upsampler(self) -> Upsampler | None:
        """What resamples the caller's audio that comes next, if that goes upstream at once."""
        return self._audio.upsampler

    @property
    def next_position_samples(self) -> int:
        """The position of the caller's audio that is to come next."""
        ends = (position + len(pcm) // SAMPLE_BYTES for position, pcm in self._snapshot.audio)
        return max(self._position_samples, *ends, 0)

    def move(self, reason: str, seconds: float, now_seconds: float) -> None:
        """The call is to leave this session within a time, and to let go by itself where that does not happen."""
        if self.state is not State.ENDED and not self._move_reason:
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
        if self.state is State.CONFIGURING and now_seconds - self._configuring_since >= CONFIGURE_SECONDS:
            self.state = State.CONNECTING
            message = f"the Realtime API did not set up the session within {CONFIGURE_SECONDS:g} s"
            self.connect_failed(UpstreamError(message, code="no_session", retryable=True), now_seconds)
        elif self.state is State.LIVE:
            self._look_after_response(now_seconds)
            self._agent.send_transcripts(now_seconds)
            if (entry := self._digits.tick(now_seconds)) is not None:
                self._entered(entry, now_seconds)
            self._journal.finish_silence(
                self._position_samples,
                now_seconds - self._live_since,
                now_seconds,
                now_seconds if heard_seconds is None else heard_seconds,
            )
            self._look_after_session(now_seconds)
        self._look_after_call(now_seconds)
        self._journal.write()
        self._release_when_quiet(now_seconds)

    def _look_after_session(self, now_seconds: float) -> None:
        """Ask for another session before the API ends this one."""
        age_seconds, allowed_seconds = now_seconds - self._live_since, self._plan.rollover_seconds
        if age_seconds >= allowed_seconds and not self._move_reason:
            seconds = max(ROLLOVER_LEAST_SECONDS, allowed_seconds * FORCE_AT - age_seconds)
            self.move(Reason.ROLLOVER, seconds, now_seconds)

    def _look_after_call(self, now_seconds: float) -> None:
        """End a call that is abandoned or has no end."""
        plan = self._plan
        if self._agent.is_unanswered:
            self._end(Outcome.FAILED, "the dispatcher does not say what was heard")
            return
        if self._journal.speaking or self._gate.state is not GateState.IDLE:
            self._active_seconds = now_seconds
        silence_seconds = now_seconds - self._active_seconds
        if plan.max_call_seconds is not None and now_seconds - self._began_seconds >= plan.max_call_seconds:
            self._hang_up(f"the call is {plan.max_call_seconds:g} s long (MAX_CALL_SECONDS)")
        elif plan.silence_hangup_seconds is not None and silence_seconds >= plan.silence_hangup_seconds:
            self._hang_up(f"nobody has spoken for {plan.silence_hangup_seconds:g} s (SILENCE_HANGUP_SECONDS)")

    # Caller → model

    def caller_audio(self, position_samples: int, pcm: bytes, now_seconds: float) -> None:
        """The caller's audio (PCM16 at 8 kHz) from this position of the call."""
        if self.state is State.ENDED:
            return
        # All that is taken is bounded here, so credit comes back as soon as a piece of it is due.
        self._position_samples = position_samples + len(pcm) // SAMPLE_BYTES
        self._credit_due_bytes += len(pcm)
        if self._credit_due_bytes >= link.CREDIT_STEP_BYTES:
            self._out.dispatcher([link.encode_credit(self._out.channel, self._credit_due_bytes)])
            self._credit_due_bytes = 0
        self._listen(self._audio.audio(position_samples, pcm), now_seconds)

    def _listen(self, steps: Iterable[Step], now_seconds: float) -> None:
        for step in steps:
            if isinstance(step, Append):
                self._out.actions.append(ToUpstream(step.event))
            elif isinstance(step, Dropped):
                self._out.report(Seen.CALLER_AUDIO_DROPPED_SECONDS, step.seconds)
            elif isinstance(step, SpeechStarted):
                self._journal.spoke(True)
                self._barge_in()
            else:
                self._journal.spoke(False)
                self._speech_ended_seconds = now_seconds - (self._plan.local_silence_ms or 0) / 1000
                self._out.upstream({"type": "input_audio_buffer.commit"})
                self._want_response(now_seconds)

    def _listen_again(self) -> None:
        """The welcome message that must not be interrupted has been heard."""
        if self._audio.is_deaf and self._gate.state is GateState.IDLE and not self._agent.is_heard:
            self._audio.is_deaf = False

    def _key(self, digit: str, now_seconds: float) -> None:
        """A key stops the agent like a word does; what is keyed is one message when it is complete."""
        self._active_seconds = now_seconds
        if self.state is not State.LIVE:
            # There is nobody to tell yet; the dispatcher keeps no more of them than this.
            self._early_keys.append(digit)
            return
        if not self._digits.is_open and not self._audio.is_deaf:
            self._barge_in()
        self._keys += 1
        if (entry := self._digits.press(digit, now_seconds)) is not None:
            self._entered(entry, now_seconds)

    def _entered(self, entry: str, now_seconds: float) -> None:
        self._out.happened("digits", digits=entry)
        text = f"[The caller pressed these keys on the telephone: {entry}]"
        self._replay.add(self._new_id(), text=text)
        # The `#` that ended it is a key, too.
        self._out.record(link.Keyed(self._keys))
        self._keys = 0
        self._want_response(now_seconds)

    def _barge_in(self) -> None:
        """The caller interrupts, and the service does not know: cancel the response, drop what was not heard."""
        if self._gate.active_id is not None and self._gate.active_id not in self._agent.over:
            self._agent.cancel(self._gate.active_id)
        elif self._gate.state is GateState.ASKED:
            # It would begin after the interruption and talk over what the caller does.
            self._gate.unwanted = True
        self._agent.flush()

    # Events of the API

    def _session_updated(self, event: dict[str, Any], now_seconds: float) -> None:
        if self.state is State.CONFIGURING:
            if self._snapshot.standby:
                self.state = State.STANDBY
                self._replay.bring([])
                self._out.record(link.Ready(standby=True))
            else:
                self._go_live(now_seconds)
        elif self._own_updates:
            self._own_updates -= 1
        elif self.state is State.LIVE and self._updates:
            _, number, session = self._updates.popleft()
            self._out.actions.append(Configured(session))
            self._out.actions.append(Answer(number, 200, {}))

    def _speech_started(self, event: dict[str, Any], now_seconds: float) -> None:
        self._journal.spoke(True)
        self._audio.turns.started(event["item_id"], event.get("audio_start_ms", 0))
        self._active_seconds = now_seconds
        self._speech_ended_seconds = None
        if self._gate.active_id is not None:
            # The server cancels it by itself; its late audio is not for the caller any more.
            self._agent.over.append(self._gate.active_id)
        self._agent.flush()

    def _speech_stopped(self, event: dict[str, Any], now_seconds: float) -> None:
        self._journal.speaking = False
        self._active_seconds = now_seconds
        # audio_end_ms includes the silence that was waited for; what was appended since has gone by, too.
        turns = self._audio.turns
        self._span = turns.stopped(event["item_id"], event["audio_end_ms"])
        since_end_ms = turns.appended_ms - event["audio_end_ms"] + self._plan.silence_ms
        self._speech_ended_seconds = now_seconds - max(0.0, since_end_ms / 1000)

    def _committed(self, event: dict[str, Any], now_seconds: float) -> None:
        # A speech that is committed has ended, whatever became of `speech_stopped`.
        if self._local_turns:
            self._span = self._audio.turns.stopped(event["item_id"], self._audio.turns.appended_ms)
        self._active_seconds = now_seconds
        item = self._insert(event["item_id"], Role.USER, event, now_seconds)
        item.span, self._span = self._span, None
        if not self._local_turns:
            # What is finished now is remembered first.
            self._journal.write()
            self._journal.spoke(False)

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
        self._out.happened(
            "item", item_id=item["id"], item_type=str(item["type"]), role=str(item.get("role") or "")
        )

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
                self._journal.write()
                self._journal.finished(finished[1])
            self._agent.send_transcripts(now_seconds)

    def _transcription_failed(self, event: dict[str, Any], now_seconds: float) -> None:
        item = self.conversation.get(event["item_id"])
        if item is not None:
            item.text_done = True
            self.conversation.changed(item)
            self._agent.send_transcripts(now_seconds)
        self._out.report(Seen.UPSTREAM_ERROR, label=ErrorEvent.from_event(event.get("error") or {}).code)

    def _response_created(self, event: dict[str, Any], now_seconds: float) -> None:
        response_id = checked_id(event["response"]["id"])
        # There is one at a time: one that is still open here has ended unheard of.
        self._agent.response_over(completed=False)
        unwanted = self._gate.created(response_id)
        if self._journal.speaking or unwanted:
            # It was asked for before the caller began to speak. It would talk over the caller, and the server
            # does not cancel what began after the speech.
            self._agent.cancel(response_id)

    def _output_added(self, event: dict[str, Any], _: float) -> None:
        item = event["item"]
        if item["type"] == "mcp_call":
            self._calls.began_elsewhere(checked_id(event["response_id"]), checked_id(item["id"]))

    def _mcp_call_ended(self, event: dict[str, Any], now_seconds: float) -> None:
        if self._calls.ended_elsewhere(checked_id(event["item_id"])):
            self._want_response(now_seconds)

    def _output_done(self, event: dict[str, Any], now_seconds: float) -> None:
        """An item of a response is whole; a function call is begun at once, beside what is still being said."""
        item = event["item"]
        if item["type"] != "function_call" or item.get("status") == "incomplete":
            return
        # All of it is looked at before anything is known of it: the dispatcher and the tool are told the same.
        response_id, item_id = checked_id(event["response_id"]), checked_id(item["id"])
        call_id, name = checked_id(item["call_id"]), checked_id(item["name"])
        arguments = checked_id(item.get("arguments") or "{}")
        known = self.conversation.insert(item_id, None, event.get("previous_item_id"))
        self._replay.made(known.item_id)
        known.kind, known.call_id, known.name, known.text = ItemKind.FUNCTION_CALL, call_id, name, arguments
        if self._calls.called(known, response_id):
            self._want_response(now_seconds)

    def tool_done(self, call_id: str, output: str, now_seconds: float) -> None:
        """A tool has its result; the model is asked for a response when all of its response's tools have."""
        if self.state is not State.ENDED and self._calls.ended(call_id, output):
            self._want_response(now_seconds)

    def _audio_delta(self, event: dict[str, Any], now_seconds: float) -> None:
        if self._agent.audio_delta(event) and self._speech_ended_seconds is not None:
            self._out.report(Seen.TURN_LATENCY_SECONDS, now_seconds - self._speech_ended_seconds)
            self._speech_ended_seconds = None

    def _response_done(self, event: dict[str, Any], now_seconds: float) -> None:
        response = event["response"]
        response_id, status = response.get("id"), response.get("status")
        self._agent.over.append(response_id)
        # First what the call goes on by: no odd field of what only tells of the response may hold it up.
        if self._gate.is_active(response_id):
            self._agent.response_over(completed=status == "completed")
            self._agent.send_transcripts(now_seconds)
            self._calls.part(response_id)
            if self._gate.done(caller_speaks=self._journal.speaking):
                self._create_response(now_seconds)
            if response_id is not None and self._calls.response_done(response_id):
                self._want_response(now_seconds)
            self._listen_again()
        if response.get("usage"):
            self._out.actions.append(Used(Usage.from_response(response["usage"])))
        details = response.get("status_details") or {}
        if status == "failed":
            self._error(ErrorEvent.from_response(details.get("error") or {}), now_seconds)
        elif status == "incomplete":
            self._log.warning("response incomplete", reason=str(details.get("reason")))

    def _error_event(self, event: dict[str, Any], now_seconds: float) -> None:
        self._error(ErrorEvent.from_event(event["error"]), now_seconds)

    def _error(self, error: ErrorEvent, now_seconds: float) -> None:
        """An error ends the call only where the session cannot go on."""
        self._out.report(Seen.UPSTREAM_ERROR, label=error.code)
        self._log.warning("upstream error", code=error.code, reason=error.message)
        if error.severity is Severity.SESSION_OVER:
            self.release(Reason.DROPPED, error.message)
        elif error.severity is Severity.FATAL:
            self._end(Outcome.FAILED, error.message)
        elif error.event_id == SESSION_UPDATE_ID and self.state is State.CONFIGURING:
            self._end(Outcome.FAILED, f"the Realtime API refused the session: {error.message}")
        elif error.severity is Severity.RESPONSE_ACTIVE:
            self._gate.refused_active()
            self._response_seconds = now_seconds
        elif error.event_id == RESPONSE_CREATE_ID and self._gate.refused():
            self._create_response(now_seconds)
        elif self._updates and error.event_id == self._updates[0][0]:
            _, number, _ = self._updates.popleft()
            self._out.actions.append(Answer(number, 400, {"error": error.message}))

    # Commands of the calls API

    def command(self, number: int, action: str, body: dict[str, Any], now_seconds: float) -> None:
        """Answered by `Answer`, at once or when the service has answered."""
        if action == "conversation":
            self._out.actions.append(Answer(number, 200, {"conversation": self.conversation.as_json()}))
        elif action == "hang_up":
            self._agent.flush()
            self._hang_up("the calls API has ended the call")
            self._out.actions.append(Answer(number, 200, {}))
        elif self.state is not State.LIVE:
            self._out.actions.append(Answer(number, 409, {"error": "the call has no session yet: try again"}))
        elif action == "say" and len(self._sayings) < MAX_WAITING_COMMANDS:
            self._say(str(body["text"]), now_seconds)
            self._out.actions.append(Answer(number, 200, {}))
        elif action == "session" and len(self._updates) < MAX_WAITING_COMMANDS:
            event_id = f"command-{number}"
            self._updates.append((event_id, number, body))
            session = {"type": "realtime", **body}
            self._out.upstream({"type": "session.update", "event_id": event_id, "session": session})
        else:
            self._out.actions.append(Answer(number, 429, {"error": "too many commands wait for this call"}))

    def _say(self, text: str, now_seconds: float, *, interruptible: bool = True) -> None:
        """Have the agent say this word for word."""
        events = self._plan.dialect.welcome(text, interruptible=interruptible)
        if any(event["type"] == "response.create" for event in events):
            self._sayings.append(events)
            self._want_response(now_seconds)
        else:
            # The service begins the response by itself.
            for event in events:
                self._out.upstream(event)

    def _hang_up(self, reason: str) -> None:
        """Have Asterisk end the call, behind what is being said."""
        if not self._hanging_up and self.state is not State.ENDED:
            self._hanging_up = True
            self._log.info("hanging up", reason=reason)
            order = link.Order(HANG_UP_ORDER, link.OrderAction.HANG_UP.value)
            self._agent.order(order)

    # Replies

    def _want_response(self, now_seconds: float) -> None:
        # While the caller speaks nothing is asked for: the answer to the speech sees it all.
        if not self._journal.speaking and self._gate.want():
            self._create_response(now_seconds)

    def _create_response(self, now_seconds: float) -> None:
        self._response_seconds = now_seconds
        events = self._sayings.popleft() if self._sayings else [{"type": "response.create"}]
        for event in events:
            ours = {"event_id": RESPONSE_CREATE_ID} if event["type"] == "response.create" else {}
            self._out.upstream(event | ours)
        if self._sayings:
            self._gate.want()

    def _look_after_response(self, now_seconds: float) -> None:
        """Give up a response of which nothing is heard any more: it would hold up transcripts and all others."""
        if self._gate.state is GateState.IDLE:
            return
        known = self._gate.active_id is not None
        limit_seconds = RESPONSE_SILENCE_SECONDS if known else RESPONSE_CREATED_SECONDS
        if now_seconds - self._response_seconds >= limit_seconds:
            self._out.report(Seen.UPSTREAM_ERROR, label="no_response")
            self._log.warning("response given up", state=self._gate.state.value, silent_seconds=limit_seconds)
            self._agent.response_over(completed=False)
            if self._gate.lost(caller_speaks=self._journal.speaking):
                self._create_response(now_seconds)

    def _new_id(self) -> str:
        """For an item of ours."""
        self._items_made += 1
        return f"avr_{self.epoch}_{self._items_made}"

    # Going on where another session stopped

    def _load(self, snapshot: Snapshot) -> bool:
        """Take what is remembered for what there is; returns whether the model was about to say something."""
        if not snapshot.reason:
            return False
        self.conversation.load(snapshot.items)
        goes_on = self._agent.restore(snapshot.replies, snapshot.first_index)
        self._agent.settle_the_rest(heard=snapshot.recalled)
        self._journal.speaking = snapshot.speaking
        callers = any(item.role is Role.USER for item in self.conversation)
        if self.conversation.last() is not None and (callers or not self._agent.is_heard):
            # The welcome message is over, or nothing of it plays any more.
            self._audio.is_deaf = False
        return goes_on or (not snapshot.speaking and self._awaits_answer())

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

    def _configure(self, *, muted: bool) -> None:
        """Ask for the session; `muted`: it is not to answer anything by itself."""
        session = self._plan.session
        detection = session.get("audio", {}).get("input", {}).get("turn_detection")
        self._muted = muted and detection is not None
        if self._muted:
            quiet = {**detection, "create_response": False}
            audio = session["audio"]
            session = {**session, "audio": {**audio, "input": {**audio["input"], "turn_detection": quiet}}}
        self._out.upstream({"type": "session.update", "event_id": SESSION_UPDATE_ID, "session": session})

    def _go_live(self, now_seconds: float) -> None:
        snapshot, self._snapshot = self._snapshot, Snapshot()
        self.state = State.LIVE
        self._live_since = self._active_seconds = now_seconds
        if self._muted:
            self._own_updates += 1
            self._configure(muted=False)
        is_new = self.conversation.last() is None
        refed = self._forget_open_turns(snapshot)
        for item in self.conversation:
            if item.role is Role.USER and not item.text_done:
                # It is brought as sound, of which no text will come.
                item.text_done = True
                self.conversation.changed(item)
        self._replay.bring(snapshot.audio)
        self._log.info(
            "session live", seconds=round(now_seconds - self._started_seconds, 3), reason=snapshot.reason or None
        )
        self._journal.write()
        self._out.record(link.Ready())
        self._out.happened("live")
        early, self._early_keys = self._early_keys, []
        for digit in (*snapshot.digits, *early):
            self._key(digit, now_seconds)
        if is_new and not refed and self._plan.welcome is not None:
            self._say(self._plan.welcome, now_seconds, interruptible=self._plan.welcome_interruptible)
        elif is_new and not refed:
            self._want_response(now_seconds)
        self._hear_again(snapshot, now_seconds)
        if self._calls.take_up(snapshot, self._plan.idempotent) or (self._goes_on and not refed):
            self._want_response(now_seconds)

    def _forget_open_turns(self, snapshot: Snapshot) -> bool:
        """Turns without text at the end of the conversation are heard again: then they get text, and an answer."""
        forgotten = False
        first = snapshot.audio[0][0] if snapshot.audio else None
        while (last := self.conversation.last()) is not None and first is not None:
            is_open = last.role is Role.USER and not last.text and last.span is not None
            if not is_open or last.span is None or last.span[0] < first:
                break
            self.conversation.remove(last.item_id)
            forgotten = True
        return forgotten

    def _hear_again(self, snapshot: Snapshot, now_seconds: float) -> None:
        """The caller's audio behind the turns that are part of the conversation."""
        heard_until = max((item.span[1] for item in self.conversation if item.span), default=0)
        self._journal.speaking = False
        kept = []
        for position, pcm in snapshot.audio:
            skipped = max(0, heard_until - position)
            if skipped * SAMPLE_BYTES < len(pcm):
                kept.append((position + skipped, pcm[skipped * SAMPLE_BYTES :]))
            self._position_samples = max(self._position_samples, position + len(pcm) // SAMPLE_BYTES)
        self._listen(self._audio.open(kept), now_seconds)

    # Ends

    def _ask_for_move(self, reason: str, seconds: float) -> None:
        self._move_reason = reason
        self._out.record(link.Move(reason, max(0.0, seconds)))

    def _release_when_quiet(self, now_seconds: float) -> None:
        """Let go where that was asked for: nobody speaks, nothing is under way; at the latest in time."""
        if self._release_at is None or self.state is State.ENDED:
            return
        quiet = (
            self._may_release
            and self._gate.state is GateState.IDLE
            and not self._journal.speaking
            and not self._agent.is_heard
            and not self._calls.any_open
            and not self._digits.is_open
            and not self._updates
            and not self._sayings
            and not self._audio.turns.any_open
        )
        if quiet or now_seconds >= self._release_at:
            self.release(self._move_reason or Reason.DRAIN, "another session goes on")

    def release(self, reason: str, message: str) -> None:
        """There is no session any more: the call goes on in another one."""
        if self.state is not State.ENDED:
            self._journal.write()
            self._out.record(link.Released(reason, message))
            self._finish(Outcome.COMPLETED, message, released=True)

    def _end(self, outcome: Outcome, message: str) -> None:
        if self.state is not State.ENDED:
            self._out.record(link.Ended(outcome.value, message))
            self._finish(outcome, message)

    def _finish(self, outcome: Outcome, reason: str, *, released: bool = False) -> None:
        if self.state is not State.ENDED:
            self.state = State.ENDED
            self._audio.forget()
            for _, number, _ in self._updates:
                self._out.actions.append(Answer(number, 410, {"error": "the call has ended"}))
            self._out.actions.append(Ended(outcome, reason, released))

    def _expect(self, event: str, *states: State) -> None:
        if self.state not in states:
            raise LinkProtocolError(f"{event} in state {self.state.value}")


Handler = Callable[[Session, dict[str, Any], float], None]
_HANDLERS: dict[str, Handler] = {
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
    "error": Session._error_event,
}

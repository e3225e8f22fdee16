"""A call's Realtime session, Sans-I/O: events and the time go in, actions come out.

    CONNECTING ──connected──▶ CONFIGURING ──session.updated──▶ LIVE ──┐
      │  ▲ │ ▲                    │  │                                ├──▶ ENDED
      │  └─┘ └──── no session ────┘  │                                │
      │   connect failed: again, as long as a retry can help          │
      └──────────────────────────────┴─────────── any end ────────────┘

The session owns what is between the dispatcher and the model: the caller's audio and keys on their way there, the
replies on their way back, one response at a time, its tools, and the conversation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

import structlog

from common import link
from common.errors import LinkProtocolError, UpstreamError
from common.link import Kind, Outcome
from worker.actions import (
    Action,
    Answer,
    Connect,
    Ended,
    RunTool,
    Seen,
    ToUpstream,
    Used,
)
from worker.agent import Agent, checked_id
from worker.audio_format import for_format
from worker.caller_audio import Append, CallerAudio, Dropped, Step
from worker.conversation import TRANSCRIPT_WAIT_SECONDS, Conversation, ItemKind, Role
from worker.digits import DigitEntry
from worker.local_vad import LocalVad, SpeechStarted
from worker.outbox import Outbox
from worker.plan import Plan
from worker.realtime_errors import ErrorEvent, Severity
from worker.responses import GateState, ResponseGate
from worker.tool_calls import ToolCalls
from worker.tools import avr
from worker.tools.errors import InvalidArguments
from worker.usage import Usage

# `session.updated` is awaited so long.
CONFIGURE_SECONDS = 10.0
RETRY_FIRST_SECONDS = 0.25
RETRY_MOST_SECONDS = 5.0
# `response.create` is answered within so long, or it is asked again.
RESPONSE_CREATED_SECONDS = 10.0
# A response of which nothing has come for so long is given up; a model that reasons may be silent for a while.
RESPONSE_SILENCE_SECONDS = 60.0
# What the calls API wants to be said, and changes of the session that are not yet answered.
MAX_WAITING_COMMANDS = 16

SESSION_UPDATE_ID = "session-update"
RESPONSE_CREATE_ID = "response-create"


class State(Enum):
    """Where a session is."""

    CONNECTING = "connecting"
    CONFIGURING = "configuring"
    LIVE = "live"
    ENDED = "ended"


class Session:
    """One call's session. Methods are events; what is to be done collects in `actions`.

    All times are seconds of one monotonic clock.
    """

    def __init__(self, opening: link.Open, channel: int, plan: Plan, now_seconds: float) -> None:
        """Open a session for a call.

        Args:
            opening: the dispatcher's OPEN.
            channel: the call's channel on the link.
            plan: the call's settings.
            now_seconds: when.
        """
        self.uuid = opening.uuid
        self.epoch = opening.epoch
        self.state = State.CONNECTING
        self.conversation = Conversation()
        self._out = Outbox(plan.dialect)
        self._out.actions.append(Connect(0.0))
        self._log = structlog.get_logger().bind(uuid=opening.uuid)
        self._channel = channel
        self._plan = plan
        self._began_seconds = now_seconds - opening.age_seconds
        self._started_seconds = now_seconds
        self._configuring_since = 0.0
        self._attempts = 0
        self._active_seconds = now_seconds
        self._hanging_up = False
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
        # Model → caller
        self._gate = ResponseGate()
        self._agent = Agent(opening, channel, audio_format, self.conversation, self._out)
        self._response_seconds = 0.0
        self._speaking = False
        self._speech_ended_seconds: float | None = None
        self._tools = ToolCalls()
        self._parting: dict[str, list[link.Order]] = {}
        # Commands of the calls API
        self._sayings: deque[list[dict[str, Any]]] = deque()
        self._updates: deque[tuple[str, int]] = deque()

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
        self._out.upstream(
            {"type": "session.update", "event_id": SESSION_UPDATE_ID, "session": self._plan.session}
        )

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
            self._end(Outcome.FAILED, f"the connection to the Realtime API was lost: {reason}")

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

    # The link

    def record(self, kind: int, payload: memoryview, now_seconds: float) -> None:
        """A record of the dispatcher.

        Raises:
            LinkProtocolError: it cannot be understood.
        """
        if self.state is State.ENDED:
            return
        match kind:
            case Kind.CALLER_AUDIO:
                position, pcm = link.decode_caller_audio(payload)
                self._caller_audio(position, bytes(pcm), now_seconds)
            case Kind.CREDIT:
                self._agent.credit(link.decode_credit(payload))
            case Kind.PLAYOUT:
                self._active_seconds = now_seconds
                self._agent.playout(link.decode_control(link.Playout, payload))
                self._agent.send_transcripts(now_seconds)
                self._listen_again()
            case Kind.HEARD:
                self._agent.heard(link.decode_control(link.Heard, payload))
                self._agent.send_transcripts(now_seconds)
            case Kind.DTMF:
                self._key(link.decode_control(link.Dtmf, payload).digit, now_seconds)
            case Kind.ORDER_DONE:
                self._order_done(link.decode_control(link.OrderDone, payload), now_seconds)
            case Kind.CLOSE:
                self._finish(Outcome.COMPLETED, link.decode_control(link.Close, payload).reason)
            case _:
                # Kinds of a newer release.
                pass

    def dispatcher_lost(self) -> None:
        """The link is gone, and the caller with it."""
        self._finish(Outcome.FAILED, "the dispatcher of this call was lost")

    def stopped(self, reason: str) -> None:
        """This process ends, or cannot go on with the call."""
        self._end(Outcome.FAILED, reason)

    # Time

    def tick(self, now_seconds: float) -> None:
        """Look at the clocks; meant to be called every 200 ms."""
        if self.state is State.CONFIGURING and now_seconds - self._configuring_since >= CONFIGURE_SECONDS:
            self.state = State.CONNECTING
            message = f"the Realtime API did not set up the session within {CONFIGURE_SECONDS:g} s"
            self.connect_failed(UpstreamError(message, code="no_session", retryable=True), now_seconds)
        elif self.state is State.LIVE:
            self._look_after_response(now_seconds)
            self._agent.send_transcripts(now_seconds)
            if (entry := self._digits.tick(now_seconds)) is not None:
                self._entered(entry, now_seconds)
        self._look_after_call(now_seconds)

    def _look_after_call(self, now_seconds: float) -> None:
        """End a call that is abandoned or has no end."""
        plan = self._plan
        if self._speaking or self._gate.state is not GateState.IDLE:
            self._active_seconds = now_seconds
        silence_seconds = now_seconds - self._active_seconds
        if plan.max_call_seconds is not None and now_seconds - self._began_seconds >= plan.max_call_seconds:
            self._hang_up(f"the call is {plan.max_call_seconds:g} s long (MAX_CALL_SECONDS)")
        elif plan.silence_hangup_seconds is not None and silence_seconds >= plan.silence_hangup_seconds:
            self._hang_up(f"nobody has spoken for {plan.silence_hangup_seconds:g} s (SILENCE_HANGUP_SECONDS)")

    # Caller → model

    def _caller_audio(self, position_samples: int, pcm: bytes, now_seconds: float) -> None:
        # All that is taken is bounded here, so credit comes back as soon as a piece of it is due.
        self._credit_due_bytes += len(pcm)
        if self._credit_due_bytes >= link.CREDIT_STEP_BYTES:
            self._out.dispatcher([link.encode_credit(self._channel, self._credit_due_bytes)])
            self._credit_due_bytes = 0
        self._listen(self._audio.audio(position_samples, pcm), now_seconds)

    def _listen(self, steps: Iterable[Step], now_seconds: float) -> None:
        for step in steps:
            if isinstance(step, Append):
                self._out.actions.append(ToUpstream(step.event))
            elif isinstance(step, Dropped):
                self._out.report(Seen.CALLER_AUDIO_DROPPED_SECONDS, step.seconds)
            elif isinstance(step, SpeechStarted):
                self._speaking = True
                self._barge_in()
            else:
                self._speaking = False
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
        if not self._digits.is_open and not self._audio.is_deaf:
            self._barge_in()
        if (entry := self._digits.press(digit, now_seconds)) is not None:
            self._entered(entry, now_seconds)

    def _entered(self, entry: str, now_seconds: float) -> None:
        self._out.happened("digits", digits=entry)
        text = f"[The caller pressed these keys on the telephone: {entry}]"
        content = [{"type": "input_text", "text": text}]
        self._out.upstream(
            {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": content}}
        )
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
        if self.state is State.LIVE and self._updates:
            _, number = self._updates.popleft()
            self._out.actions.append(Answer(number, 200, {}))
        if self.state is not State.CONFIGURING:
            return
        self.state = State.LIVE
        self._log.info("session live", seconds=round(now_seconds - self._started_seconds, 3))
        self._out.dispatcher([link.encode(link.Ready(), self._channel)])
        self._out.happened("live")
        self._active_seconds = now_seconds
        if self._plan.welcome is not None:
            self._say(self._plan.welcome, now_seconds, interruptible=self._plan.welcome_interruptible)
        else:
            self._want_response(now_seconds)
        self._listen(self._audio.open(), now_seconds)

    def _speech_started(self, event: dict[str, Any], now_seconds: float) -> None:
        self._speaking = True
        self._active_seconds = now_seconds
        self._speech_ended_seconds = None
        if self._gate.active_id is not None:
            # The server cancels it by itself; its late audio is not for the caller any more.
            self._agent.over.append(self._gate.active_id)
        self._agent.flush()

    def _speech_stopped(self, event: dict[str, Any], now_seconds: float) -> None:
        self._speaking = False
        self._active_seconds = now_seconds
        # audio_end_ms includes the silence that was waited for; what was appended since has gone by, too.
        turns = self._audio.turns
        turns.stopped(event["item_id"], event["audio_end_ms"])
        since_end_ms = turns.appended_ms - event["audio_end_ms"] + self._plan.silence_ms
        self._speech_ended_seconds = now_seconds - max(0.0, since_end_ms / 1000)

    def _committed(self, event: dict[str, Any], now_seconds: float) -> None:
        # A speech that is committed has ended, whatever became of `speech_stopped`.
        if self._local_turns:
            self._audio.turns.stopped(event["item_id"], self._audio.turns.appended_ms)
        else:
            self._speaking = False
        self._active_seconds = now_seconds
        self._insert(event["item_id"], Role.USER, event, now_seconds)

    def _item_added(self, event: dict[str, Any], now_seconds: float) -> None:
        item = event["item"]
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

    def _insert(self, item_id: str, role: Role | None, event: dict[str, Any], now_seconds: float) -> None:
        item = self.conversation.insert(checked_id(item_id), role, event.get("previous_item_id"))
        if item.role is Role.USER:
            item.waits_until_seconds = min(item.waits_until_seconds, now_seconds + TRANSCRIPT_WAIT_SECONDS)

    def _transcribed(self, event: dict[str, Any], now_seconds: float) -> None:
        item = self.conversation.get(event["item_id"])
        if item is not None and not item.text_done:
            item.text = event["transcript"].strip()
            item.text_done = True
            finished = self._audio.turns.text_stored(item.item_id)
            if finished is not None:
                turn, position = finished
                self._out.dispatcher([link.encode(link.Finished(position, turn), self._channel)])
            self._agent.send_transcripts(now_seconds)

    def _transcription_failed(self, event: dict[str, Any], now_seconds: float) -> None:
        item = self.conversation.get(event["item_id"])
        if item is not None:
            item.text_done = True
            self._agent.send_transcripts(now_seconds)
        self._out.report(Seen.UPSTREAM_ERROR, label=ErrorEvent.from_event(event.get("error") or {}).code)

    def _response_created(self, event: dict[str, Any], now_seconds: float) -> None:
        response_id = checked_id(event["response"]["id"])
        # There is one at a time: one that is still open here has ended unheard of.
        self._agent.response_over(completed=False)
        unwanted = self._gate.created(response_id)
        if self._speaking or unwanted:
            # It was asked for before the caller began to speak. It would talk over the caller, and the server
            # does not cancel what began after the speech.
            self._agent.cancel(response_id)

    def _output_added(self, event: dict[str, Any], _: float) -> None:
        item = event["item"]
        if item["type"] == "mcp_call":
            # The service runs it by itself, but does not go on speaking by itself.
            self._tools.begin(checked_id(event["response_id"]), checked_id(item["id"]))

    def _mcp_call_ended(self, event: dict[str, Any], now_seconds: float) -> None:
        if self._tools.end(checked_id(event["item_id"])):
            self._want_response(now_seconds)

    def _output_done(self, event: dict[str, Any], now_seconds: float) -> None:
        """An item of a response is whole; a function call is begun at once, beside what is still being said."""
        item = event["item"]
        if item["type"] != "function_call" or item.get("status") == "incomplete":
            return
        call_id, name, arguments = item["call_id"], item["name"], item.get("arguments") or "{}"
        known = self.conversation.insert(item["id"], None, event.get("previous_item_id"))
        known.kind, known.call_id, known.name, known.text = ItemKind.FUNCTION_CALL, call_id, name, arguments
        self._tools.begin(event["response_id"], call_id)
        self._out.happened("tool_call", call_id=call_id, name=name, arguments=arguments)
        if name not in avr.RESERVED_NAMES:
            self._out.actions.append(RunTool(call_id, name, arguments))
            return
        try:
            wanted = avr.parse_transfer(arguments) if name == avr.TRANSFER else avr.parse_hangup(arguments)
        except InvalidArguments as error:
            self.tool_done(call_id, str(error), now_seconds)
        else:
            # It is carried out when the words that go with it have been heard, and they may come after it.
            self._parting.setdefault(event["response_id"], []).append(self._tools.order(call_id, wanted))

    def _part(self, response_id: str | None) -> None:
        """A response is over: what it wants done with the call follows its last words."""
        for order in self._parting.pop(response_id or "", ()):
            self._agent.order(order)

    def tool_done(self, call_id: str, output: str, now_seconds: float, *, answer: bool = True) -> None:
        """A tool has its result; the model is asked for a response when all of its response's tools have."""
        if self.state is State.ENDED or call_id not in self._tools.open_calls:
            return
        self._out.upstream(
            {
                "type": "conversation.item.create",
                "item": {"type": "function_call_output", "call_id": call_id, "output": output},
            }
        )
        self._out.happened("tool_result", call_id=call_id, output=output)
        if self._tools.end(call_id, answer=answer):
            self._want_response(now_seconds)

    def _order_done(self, done: link.OrderDone, now_seconds: float) -> None:
        call_id = self._tools.ordered(done.number)
        if call_id is not None:
            # If it worked, the call is on its way out, and more words would not be heard.
            self.tool_done(call_id, done.message or "done", now_seconds, answer=not done.ok)

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
            self._part(response_id)
            if self._gate.done(caller_speaks=self._speaking):
                self._create_response(now_seconds)
            if response_id is not None and self._tools.response_done(response_id):
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
        if error.severity is Severity.FATAL:
            self._end(Outcome.FAILED, error.message)
        elif error.event_id == SESSION_UPDATE_ID and self.state is State.CONFIGURING:
            self._end(Outcome.FAILED, f"the Realtime API refused the session: {error.message}")
        elif error.severity is Severity.RESPONSE_ACTIVE:
            self._gate.refused_active()
            self._response_seconds = now_seconds
        elif error.event_id == RESPONSE_CREATE_ID and self._gate.refused():
            self._create_response(now_seconds)
        elif self._updates and error.event_id == self._updates[0][0]:
            _, number = self._updates.popleft()
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
            self._updates.append((event_id, number))
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
            order = link.Order(0, link.OrderAction.HANG_UP.value)
            self._agent.order(order)

    # Replies

    def _want_response(self, now_seconds: float) -> None:
        # While the caller speaks nothing is asked for: the answer to the speech sees it all.
        if not self._speaking and self._gate.want():
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
            if self._gate.lost(caller_speaks=self._speaking):
                self._create_response(now_seconds)

    # Ends

    def _end(self, outcome: Outcome, message: str) -> None:
        if self.state is not State.ENDED:
            self._out.dispatcher([link.encode(link.Ended(outcome.value, message), self._channel)])
            self._finish(outcome, message)

    def _finish(self, outcome: Outcome, reason: str) -> None:
        if self.state is not State.ENDED:
            self.state = State.ENDED
            self._audio.forget()
            for _, number in self._updates:
                self._out.actions.append(Answer(number, 410, {"error": "the call has ended"}))
            self._out.actions.append(Ended(outcome, reason))

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

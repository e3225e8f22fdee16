"""A session of the simulated Realtime API, without I/O: client events in, server events out.

Turn detection runs on audio time (milliseconds appended), replies and transcription on the clock given as
`now` (seconds of any monotonic clock). Order of events, errors and figures follow OpenAI's service; where its
behaviour is not known, a comment says what is assumed.
"""

from __future__ import annotations

import secrets
from collections import Counter, deque
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any, Final

import orjson

from simulator.realtime import errors
from simulator.realtime.audio import wire_audio
from simulator.realtime.beta import BetaDialect
from simulator.realtime.config import SessionConfig
from simulator.realtime.conversation import Conversation, Item
from simulator.realtime.counters import Counters
from simulator.realtime.dialect import Dialect
from simulator.realtime.ending import Ending, Output
from simulator.realtime.errors import RequestError
from simulator.realtime.garbling import garbled
from simulator.realtime.hearing import Hearing
from simulator.realtime.items import read_item, without_audio
from simulator.realtime.mcp import McpServers
from simulator.realtime.model import SimulatedModel
from simulator.realtime.quirks import FIRST_PART_DELTAS, Quirk, QuirkFilter
from simulator.realtime.response import Response
from simulator.realtime.session_faults import SessionFaults
from simulator.realtime.settings import (
    Behaviour,
    DialectName,
    SimulatorSettings,
    with_directives,
)
from simulator.realtime.timeline import Timeline
from simulator.realtime.usage import Usage
from simulator.realtime.xai import XaiDialect
from simulator.schedule import Schedule

TOKENS_PER_MINUTE = 250_000

# The real conversation forgets its oldest items when there are too many tokens; here creating one more fails.
MAX_ITEMS = 2000

# Responses beside the one in the conversation; more are refused.
MAX_OUT_OF_BAND = 16

# A session that does not listen begins to speak by itself: after any greeting has been asked for.
TALK_AFTER_SECONDS = 0.5

# Remembered for people and tests.
MAX_CLIENT_EVENTS = 1000
MAX_RESPONSES = 1000

_DIALECTS: Final[dict[DialectName, type[Dialect]]] = {
    DialectName.GA: Dialect,
    DialectName.BETA: BetaDialect,
    DialectName.XAI: XaiDialect,
}


class RealtimeSession:
    """State of one session.

    Args:
        model: from the URL.
        settings: of the server.
        faults: that this session is to suffer.
        wall_time_seconds: the time of day, for `expires_at`.
        dialect: that its client speaks; None: the server's.
        counters: of the server.

    Attributes:
        id: `sess_...`.
        model: from the URL.
        conversation: what the model has in mind.
        mcp: the MCP servers among its tools.
        responses: all of them (the last 1,000).
        client_events: those received (the last 1,000), without `input_audio_buffer.append`.
        received: client events received, by type.
        sent: server events sent, by type.
        usage: of all responses.
        timeline: when it might answer, and heard its caller.
        closing: set when the session is over: close code and reason.
    """

    def __init__(
        self,
        *,
        model: str,
        settings: SimulatorSettings,
        faults: SessionFaults | None = None,
        wall_time_seconds: float = 0.0,
        dialect: DialectName | None = None,
        counters: Counters | None = None,
    ) -> None:
        self._id_prefix = secrets.token_hex(6)
        self._id_count = 0
        self.id = self.new_id("sess")
        self.model = model
        self.settings = settings
        self.faults = faults or SessionFaults()
        self.behaviour: Behaviour = settings.behaviour()
        self._counters = counters or Counters()
        self._quirks = QuirkFilter(self.faults.quirks)
        self._dialect = _DIALECTS[dialect or settings.dialect]()
        self.config = SessionConfig(
            session_id=self.id,
            model=model,
            expires_at=int(wall_time_seconds + settings.session_limit_seconds),
            defaults=self._dialect.defaults,
        )
        self.conversation = Conversation(self.new_id("conv"))
        self.schedule = Schedule()
        self.mcp = McpServers(self)
        self.responses: deque[Response] = deque(maxlen=MAX_RESPONSES)
        self.client_events: deque[dict[str, Any]] = deque(maxlen=MAX_CLIENT_EVENTS)
        self.received: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.usage = Usage()
        self.timeline = Timeline()
        self.closing: tuple[int, str] | None = None
        self._output: list[bytes] = []
        self._active: Response | None = None
        self._out_of_band: dict[str, Response] = {}
        self._response_count = 0
        self._model = SimulatedModel()
        self._has_spoken = False
        self.hearing = Hearing(self)
        self.input = self.hearing.input
        self.recording = self.hearing.recording
        self._handlers: dict[str, Callable[[dict[str, Any], float], None]] = {
            "session.update": self._update_session,
            "input_audio_buffer.append": self.hearing.append,
            "input_audio_buffer.commit": self.hearing.commit,
            "input_audio_buffer.clear": self.hearing.clear,
            "conversation.item.create": self._create_item,
            "conversation.item.delete": self._delete_item,
            "conversation.item.retrieve": self._retrieve_item,
            "conversation.item.truncate": self._truncate_item,
            "response.create": self._request_response,
            "response.cancel": self._cancel_response,
        }
        self.hearing.configure()

    # What the shell drives.

    def open(self, now: float) -> None:
        """Begin: `session.created`."""
        opening: dict[str, dict[str, Any]] = {
            "session.created": {"session": self.config.session},
            "conversation.created": {
                "conversation": {"id": self.conversation.id, "object": "realtime.conversation"}
            },
        }
        for kind in self._dialect.opening:
            self.emit(kind, **opening[kind])
        self.schedule.at(now + self.settings.session_limit_seconds, lambda _due: self.expire())
        self.timeline.opened_seconds = now

    def receive(self, message: str | bytes, now: float) -> None:
        """Take one client event (JSON text); what is wrong with it is answered with an `error` event."""
        if self.closing is not None:
            return
        event: Any = None
        try:
            event = _decoded(message)
            kind = self._dialect.check(event)
            self.received[kind] += 1
            is_audio = kind == "input_audio_buffer.append"
            self.timeline.event(audio=is_audio, now_seconds=now)
            if not is_audio:
                self.client_events.append(event if self.settings.keep_audio else without_audio(event))
                self._counters.count(kind)
            if self.faults.ignores(kind):
                pass
            elif (rejection := self.faults.take_rejection(kind)) is not None:
                self.received["(refused)"] += 1
                self.emit("error", error=rejection.error(event.get("event_id")))
                self.timeline.suffered("rejection", now, now)
            elif (delay_seconds := self.faults.take_delay(kind)) is not None:
                self.schedule.at(now + delay_seconds, lambda due: self._handle(kind, event, due))
            else:
                self._handle(kind, event, now)
        except RequestError as error:
            self._refuse_event(error, event)
        self.look(now)

    def _handle(self, kind: str, event: dict[str, Any], now: float) -> None:
        try:
            self._handlers[kind](self._dialect.read(event), now)
        except RequestError as error:
            self._refuse_event(error, event)

    def _refuse_event(self, error: RequestError, event: Any) -> None:
        self.received["(refused)"] += 1
        event_id = event.get("event_id") if isinstance(event, dict) else None
        self._refuse(error, event_id if isinstance(event_id, str) else None)

    def advance(self, now: float) -> None:
        """Do what is due."""
        if self.closing is None:
            self.schedule.run_due(now)
        self.look(now)

    def look(self, now: float, *, connected: bool = True) -> None:
        """Note whether the session may answer; one whose client cannot hear it (stalled, or gone) cannot."""
        self.timeline.answers(connected and self.may_answer, now)

    def next_due_seconds(self) -> float | None:
        """When `advance` is to be called next."""
        return None if self.closing is not None else self.schedule.next_due_seconds()

    @property
    def has_output(self) -> bool:
        """Whether there is something for `take_output`, or the session is over."""
        return bool(self._output) or self.closing is not None

    @property
    def output_count(self) -> int:
        """How many server events wait to be sent."""
        return len(self._output)

    def take_output(self) -> list[bytes]:
        """The server events that are to be sent now, as JSON text, in order."""
        output, self._output = self._output, []
        return output

    def expire(self) -> None:
        """The session has lasted as long as it may: `error` event, then close code 1001."""
        if self.closing is not None:
            return
        minutes = self.settings.session_limit_seconds / 60
        message = f"Your session hit the maximum duration of {minutes:g} minutes."
        self._refuse(RequestError(message, code="session_expired"), None)
        self.closing = (1001, message)

    def send_text(self, text: str) -> None:
        """Send any text message."""
        self._output.append(text.encode())

    def send_error(self, error: dict[str, Any], *, close: tuple[int, str] | None) -> None:
        """Send an `error` event and, if asked to, end the session."""
        self.emit("error", error=error)
        self.closing = self.closing or close

    @property
    def may_answer(self) -> bool:
        """Whether it is set up, and answers turns by itself or is about to speak."""
        is_set_up = self.closing is None and self.sent["session.updated"] > 0
        speaks = self._active is not None or bool(self._out_of_band)
        return is_set_up and (speaks or self._detection("create_response"))

    @property
    def active_response(self) -> Response | None:
        """The response under way in the conversation."""
        return self._active

    # What responses need.

    def emit(self, kind: str, **content: Any) -> None:
        """Send a server event of the GA dialect, as the client's dialect has it, and as faults leave it."""
        for quirky, changed in self._quirks.apply(kind, content):
            for sent, fields in self._dialect.write(quirky, changed):
                if self.faults.loses(sent):
                    continue
                self.sent[sent] += 1
                event = {"type": sent, "event_id": self.new_id("event"), **fields}
                garbling = self.faults.take_garbling(sent)
                self._output.append(orjson.dumps(event) if garbling is None else garbled(event, garbling))

    def new_id(self, prefix: str) -> str:
        """A unique id, as long as OpenAI's."""
        self._id_count += 1
        return f"{prefix}_{self._id_prefix}{self._id_count:08x}"

    def failing(self, now: float) -> Ending | None:
        """Return the end of every response while the service is down; None: it is not."""
        return self.faults.failing(now)

    def calls_made(self, response: Response, now: float) -> None:
        """Begin the next response before this one, which called functions, is done: if it is commanded."""
        if response is self._active and self.faults.take_overlap():
            self._active = None
            self._create_response({}, now)

    def response_finished(self, response: Response, now: float) -> None:
        """Account for a response whose `response.done` has been sent, or would have been."""
        assert response.usage is not None
        self.usage += response.usage
        self._counters.count("responses")
        self._counters.count(f"responses_{response.status}")
        self._counters.count("input_tokens", response.usage.input.total)
        self._counters.count("output_tokens", response.usage.output.total)
        remaining = max(0, TOKENS_PER_MINUTE - response.usage.input.total - response.usage.output.total)
        limit = {
            "name": "tokens",
            "limit": TOKENS_PER_MINUTE,
            "remaining": remaining,
            "reset_seconds": 60 * (TOKENS_PER_MINUTE - remaining) / TOKENS_PER_MINUTE,
        }
        # Documented for the start of a response, seen after its end, and for tokens only.
        self.emit("rate_limits.updated", rate_limits=[self.faults.take_rate_limit() or limit])
        self._has_spoken |= response.sent_ms > 0
        if response is not self._active:
            self._out_of_band.pop(response.id, None)
            return
        self._active = None
        if response.status == "completed" and response.sent_ms:
            # "The timeout value will be applied after the last model response's audio has finished playing,
            # i.e. it's set to the `response.done` time plus audio playback duration."
            self.hearing.wait_for_speech(response.sent_ms)
        if response.status == "cancelled":
            response.send_late(self.faults.take_late_deltas())

    # Session.

    def _update_session(self, event: dict[str, Any], now: float) -> None:
        change = _without_paths(event["session"], self.faults.unread_fields)
        session = self.config.updated(change, has_spoken=self._has_spoken)
        behaviour = _with_directives(self.settings.behaviour(), session["instructions"], "session.instructions")
        first = not self.sent["session.updated"]
        detection = self.config.turn_detection
        self.config.session = session
        self.behaviour = behaviour
        if self.config.turn_detection != detection:
            self.hearing.configure()
        self.emit("session.updated", session=session)
        self.mcp.configure(session["tools"], now)
        if first and not self.settings.listen:
            self.schedule.at(now + TALK_AFTER_SECONDS, self._talk)

    # Conversation.

    def _create_item(self, event: dict[str, Any], now: float) -> None:
        if event["item"]["type"] == "force_message":
            self._force_message(event["item"], now)
            return
        if len(self.conversation.items) >= MAX_ITEMS:
            raise RequestError(f"The simulator keeps {MAX_ITEMS} items.", code="too_many_items")
        item = self._item(event["item"], "item")
        request = self.mcp.request_of(item) if item.type == "mcp_approval_response" else None
        self.join(item, event.get("previous_item_id"))
        if request is not None and item.approve:
            self.mcp.approve(request, now)

    def _item(self, wire: dict[str, Any], path: str) -> Item:
        return read_item(
            wire, path, new_id=self.new_id, audio=self.config.input_audio, keep_audio=self.settings.keep_audio
        )

    def _force_message(self, item: dict[str, Any], now: float) -> None:
        """Say fixed text, as a response. xAI: unless it is interruptible, "caller audio is dropped" meanwhile."""
        text = " ".join(part["text"] for part in item["content"])
        said = replace(self.behaviour, say=text)
        response = self._create_response({"tool_choice": "none"}, now, said)
        if item.get("interruptible") is False:
            self.hearing.deaf_until_seconds = now + said.first_audio_seconds + response.total_ms / 1000

    def _delete_item(self, event: dict[str, Any], _now: float) -> None:
        # Of an item that is being spoken the rest still comes: nothing else is known of the real one.
        self.conversation.remove(event["item_id"])
        self.emit("conversation.item.deleted", item_id=event["item_id"])

    def _retrieve_item(self, event: dict[str, Any], _now: float) -> None:
        item = self.conversation.find(event["item_id"])
        if item is None:
            raise errors.no_such_item("retrieve", "retrieving", event["item_id"])
        self.emit("conversation.item.retrieved", item=item.wire(self.config.input_audio.encode))

    def _truncate_item(self, event: dict[str, Any], _now: float) -> None:
        # Of an item that is being spoken the rest still comes, and is not remembered: also an assumption.
        item = self.conversation.find(event["item_id"])
        if item is None:
            raise errors.no_such_item("truncate", "truncating", event["item_id"])
        content_index, audio_end_ms = event["content_index"], event["audio_end_ms"]
        if Quirk.TWO_PARTS in self.faults.quirks and content_index == 1:
            # The session keeps one part; the second begins here.
            content_index, audio_end_ms = 0, audio_end_ms + FIRST_PART_DELTAS * self.behaviour.delta_ms
        item.truncate(content_index, audio_end_ms)
        self.emit(
            "conversation.item.truncated",
            item_id=item.id,
            content_index=event["content_index"],
            audio_end_ms=event["audio_end_ms"],
        )

    # Responses.

    def _request_response(self, event: dict[str, Any], now: float) -> None:
        self._create_response(event.get("response") or {}, now)

    def _cancel_response(self, event: dict[str, Any], now: float) -> None:
        response_id = event.get("response_id")
        response = self._active
        if response_id is not None and (response is None or response.id != response_id):
            response = self._out_of_band.get(response_id)
        if response is None:
            raise errors.no_active_response()
        response.cancel(now, "client_cancelled")

    def interrupt(self, now: float) -> None:
        """Cancel the active response, because the caller speaks."""
        if self._active is not None and self._detection("interrupt_response"):
            self._active.cancel(now, "turn_detected")

    def hear(self, speech: bytes) -> None:
        """Let the model listen to a turn's speech, to answer in its tone."""
        if self.behaviour.echo:
            self._model.hear(speech)

    def join(self, item: Item, after: str | None = None) -> None:
        """Add an item to the conversation, and tell the client."""
        previous_id = self.conversation.add(item, after=after)
        wire = item.wire()
        self.emit("conversation.item.added", previous_item_id=previous_id, item=wire)
        self.emit("conversation.item.done", previous_item_id=previous_id, item=wire)

    def respond_to_turn(self, now: float) -> None:
        """Answer a turn that has ended, unless the client asks for its answers."""
        if not self._detection("create_response"):
            return
        try:
            self._create_response({}, now)
        except RequestError as error:
            # "If `interrupt_response` is set to `false` this may fail to create a response."
            self._refuse(error, None)

    def _create_response(
        self, request: dict[str, Any], now: float, behaviour: Behaviour | None = None
    ) -> Response:
        in_conversation = request.get("conversation") != "none"
        if in_conversation and self._active is not None:
            raise errors.active_response(self._active.id)
        if len(self._out_of_band) >= MAX_OUT_OF_BAND:
            raise RequestError(
                f"The simulator takes {MAX_OUT_OF_BAND} responses at once.", code="too_many_responses"
            )
        output = self.config.session["audio"]["output"]
        asked = request.get("audio", {}).get("output", {})
        voice, form = asked.get("voice", output["voice"]), asked.get("format", output["format"])
        if in_conversation and self._has_spoken and voice != output["voice"]:
            raise errors.voice_locked()
        modalities = request.get("output_modalities") or self.config.session["output_modalities"]
        max_tokens = request.get("max_output_tokens") or self.config.session["max_output_tokens"]
        path = "response.instructions"
        behaviour = _with_directives(behaviour or self.behaviour, request.get("instructions") or "", path)
        usage = self._read_context(request)
        ending = self.faults.take_ending()
        if self.faults.exceeds_context(usage.input.total):
            ending = Ending(code="context_length_exceeded", output=Output.NONE)
        self._response_count += 1
        self.hearing.stop_waiting()
        plan = self._model.plan(
            behaviour,
            self.conversation,
            request,
            number=self._response_count,
            speaks="audio" in modalities,
            max_tokens=max_tokens,
            ending=ending,
            late_seconds=self.faults.take_late_response() if in_conversation else 0.0,
        )
        response = Response(
            self,
            plan,
            response_id=self.new_id("resp"),
            number=self._response_count,
            turn=self.conversation.user_turns(notes=behaviour.notes_are_turns),
            in_conversation=in_conversation,
            audio=wire_audio(form),
            settings={
                "output_modalities": modalities,
                "max_output_tokens": max_tokens,
                "audio": {"output": {"format": form, "voice": voice}},
                "metadata": request.get("metadata"),
            },
            read=usage,
        )
        self.responses.append(response)
        if in_conversation:
            self._active = response
        else:
            self._out_of_band[response.id] = response
        response.start(now)
        return response

    def _read_context(self, request: dict[str, Any]) -> Usage:
        items = self.conversation.items
        if request.get("input") is not None:
            items = []
            for index, wire in enumerate(request["input"]):
                path = f"response.input[{index}]"
                if wire["type"] != "item_reference":
                    items.append(self._item(wire, path))
                elif (item := self.conversation.find(wire["id"])) is not None:
                    items.append(item)
                else:
                    raise RequestError(
                        f"Item with id '{wire['id']}' not found.", code="invalid_value", param=f"{path}.id"
                    )
        instructions = request.get("instructions") or self.config.instructions
        return self._model.read(instructions, request.get("tools") or self.config.session["tools"], items)

    def _talk(self, now: float) -> None:
        # Speak, be quiet for as long as that plays, and so on: see `SimulatorSettings.listen`.
        response = self._active or self._create_response({}, now)
        self.schedule.at(now + 2 * response.total_ms / 1000, self._talk)

    def _detection(self, name: str) -> bool:
        return bool((self.config.turn_detection or {}).get(name))

    def _refuse(self, error: RequestError, event_id: str | None) -> None:
        self.emit(
            "error",
            error={
                "type": error.kind,
                "code": error.code,
                "message": str(error),
                "param": error.param,
                "event_id": event_id,
            },
        )


def _decoded(message: str | bytes) -> Any:
    try:
        return orjson.loads(message)
    except orjson.JSONDecodeError as error:
        raise RequestError("The event is not valid JSON.", code="invalid_json") from error


def _without_paths(change: dict[str, Any], paths: Collection[str], prefix: str = "") -> dict[str, Any]:
    """Return a change of the session without the fields at these paths (`audio.input.transcription`)."""
    if not paths:
        return change
    return {
        name: _without_paths(value, paths, f"{prefix}{name}.") if isinstance(value, dict) else value
        for name, value in change.items()
        if f"{prefix}{name}" not in paths
    }


def _with_directives(behaviour: Behaviour, instructions: str, param: str) -> Behaviour:
    try:
        return with_directives(behaviour, instructions)
    except ValueError as error:
        raise RequestError(str(error), code="invalid_value", param=param) from error

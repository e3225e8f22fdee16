"""A session of the simulated Realtime API, without I/O: client events in, server events out.

Turn detection runs on audio time (milliseconds appended). Replies and transcription run on the clock given as
`now` (seconds of any monotonic clock). The order of events, the errors and the figures follow OpenAI's service.
Where its behaviour is not known, a comment states the assumption.
"""

from __future__ import annotations

import secrets
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from simulator.realtime import errors
from simulator.realtime.beta import BetaDialect
from simulator.realtime.config import SessionConfig
from simulator.realtime.conversation import Conversation, Item
from simulator.realtime.counters import Counters
from simulator.realtime.dialect import Dialect
from simulator.realtime.ending import Ending
from simulator.realtime.errors import RequestError
from simulator.realtime.garbling import garbled
from simulator.realtime.hearing import Hearing
from simulator.realtime.items import read_item, without_audio
from simulator.realtime.mcp import McpServers
from simulator.realtime.quirks import FIRST_PART_DELTAS, Quirk, QuirkFilter
from simulator.realtime.responder import Responder, behaviour_with
from simulator.realtime.response import Response
from simulator.realtime.script import Script
from simulator.realtime.session_faults import SessionFaults
from simulator.realtime.settings import (
    Behaviour,
    DialectName,
    SimulatorSettings,
)
from simulator.realtime.timeline import Timeline
from simulator.realtime.usage import Usage
from simulator.realtime.xai import XaiDialect
from simulator.schedule import Schedule

# The real conversation drops its oldest items when it has too many tokens; here creating one more item fails.
MAX_ITEMS = 2000

# A session that does not listen begins to speak after this time, so that a requested greeting comes first.
TALK_AFTER_SECONDS = 0.5

# Client events kept for people and tests.
MAX_CLIENT_EVENTS = 1000

_DIALECTS: Final[dict[DialectName, type[Dialect]]] = {
    DialectName.GA: Dialect,
    DialectName.BETA: BetaDialect,
    DialectName.XAI: XaiDialect,
}


class RealtimeSession:
    """The state of one session.

    Args:
        model: the model that the URL names.
        settings: settings of the server.
        faults: faults of this session.
        wall_time_seconds: time of day, for `expires_at`.
        dialect: dialect of the client; None: the server's.
        counters: counts of the server.
        script: what the model says; None: as the settings say.

    Attributes:
        id: `sess_...`.
        model: the model that the URL names.
        conversation: items that the model knows.
        mcp: MCP servers among the tools.
        responses: the last 1,000 responses.
        client_events: the last 1,000 received events, without `input_audio_buffer.append`.
        received: client events received, by type.
        sent: server events sent, by type.
        usage: tokens of all responses.
        timeline: times at which the session may answer, and receives audio.
        closing: close code and reason, set when the session is over.
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
        script: Script | None = None,
    ) -> None:
        self._id_prefix = secrets.token_hex(6)
        self._id_count = 0
        self.id = self.new_id("sess")
        self.model = model
        self.settings = settings
        self.script = script
        self.faults = faults or SessionFaults()
        self.behaviour: Behaviour = settings.behaviour()
        self.counters = counters or Counters()
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
        self.client_events: deque[dict[str, Any]] = deque(maxlen=MAX_CLIENT_EVENTS)
        self.received: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.timeline = Timeline()
        self.closing: tuple[int, str] | None = None
        self._output: list[bytes] = []
        self.hearing = Hearing(self)
        self.input = self.hearing.input
        self.recording = self.hearing.recording
        self.responder = Responder(self)
        self._handlers: dict[str, Callable[[dict[str, Any], float], None]] = {
            "session.update": self._update_session,
            "input_audio_buffer.append": self.hearing.append,
            "input_audio_buffer.commit": self.hearing.commit,
            "input_audio_buffer.clear": self.hearing.clear,
            "conversation.item.create": self._create_item,
            "conversation.item.delete": self._delete_item,
            "conversation.item.retrieve": self._retrieve_item,
            "conversation.item.truncate": self._truncate_item,
            "response.create": self.responder.request,
            "response.cancel": self.responder.cancel,
        }
        self.hearing.configure()

    # For the shell.

    def open(self, now: float) -> None:
        """Begin the session with `session.created`."""
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
        """Take one client event (JSON text), and answer an invalid one with an `error` event."""
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
                self.counters.count(kind)
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
        self.note_readiness(now)

    def _handle(self, kind: str, event: dict[str, Any], now: float) -> None:
        try:
            self._handlers[kind](self._dialect.read(event), now)
        except RequestError as error:
            self._refuse_event(error, event)

    def _refuse_event(self, error: RequestError, event: Any) -> None:
        self.received["(refused)"] += 1
        event_id = event.get("event_id") if isinstance(event, dict) else None
        self.refuse(error, event_id if isinstance(event_id, str) else None)

    def advance(self, now: float) -> None:
        """Run the timers that are due."""
        if self.closing is None:
            self.schedule.run_due(now)
        self.note_readiness(now)

    def note_readiness(self, now: float, *, connected: bool = True) -> None:
        """Note whether the session may answer; it cannot while its client is stalled or disconnected."""
        self.timeline.answers(connected and self.may_answer, now)

    def next_due_seconds(self) -> float | None:
        """Return the time of the next call of `advance`."""
        return None if self.closing is not None else self.schedule.next_due_seconds()

    @property
    def has_output(self) -> bool:
        """Tell whether `take_output` has events, or the session is over."""
        return bool(self._output) or self.closing is not None

    @property
    def output_count(self) -> int:
        """Return the number of server events that wait to be sent."""
        return len(self._output)

    def take_output(self) -> list[bytes]:
        """Return the server events to send now, as JSON text, in order."""
        output, self._output = self._output, []
        return output

    def expire(self) -> None:
        """End the session at its time limit: `error` event, then close code 1001."""
        if self.closing is not None:
            return
        minutes = self.settings.session_limit_seconds / 60
        message = f"Your session hit the maximum duration of {minutes:g} minutes."
        self.refuse(RequestError(message, code="session_expired"), None)
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
        """Tell whether the session is set up, and answers turns by itself or is about to speak."""
        is_set_up = self.closing is None and self.sent["session.updated"] > 0
        return is_set_up and (self.responder.speaks or self.config.detection_flag("create_response"))

    @property
    def active_response(self) -> Response | None:
        """Return the response under way in the conversation."""
        return self.responder.active

    @property
    def responses(self) -> Sequence[Response]:
        """Return the last 1,000 responses, in order."""
        return self.responder.responses

    @property
    def usage(self) -> Usage:
        """Return the tokens of all responses that have ended."""
        return self.responder.usage

    # For responses.

    def emit(self, kind: str, **content: Any) -> None:
        """Send a server event of the GA dialect, changed by the client's dialect and by faults."""
        for quirky, changed in self._quirks.apply(kind, content):
            for sent, fields in self._dialect.write(quirky, changed):
                if self.faults.loses(sent):
                    continue
                self.sent[sent] += 1
                event = {"type": sent, "event_id": self.new_id("event"), **fields}
                garbling = self.faults.take_garbling(sent)
                self._output.append(orjson.dumps(event) if garbling is None else garbled(event, garbling))

    def new_id(self, prefix: str) -> str:
        """Return a unique id, as long as OpenAI's."""
        self._id_count += 1
        return f"{prefix}_{self._id_prefix}{self._id_count:08x}"

    def failing(self, now: float) -> Ending | None:
        """Return the end of every response while the service is down; None: it is not."""
        return self.faults.failing(now)

    def calls_made(self, response: Response, now: float) -> None:
        """Begin the next response early, if a fault commands it."""
        self.responder.calls_made(response, now)

    def response_finished(self, response: Response, now: float) -> None:
        """Account for a response that is done."""
        self.responder.finished(response)

    # For the caller's audio.

    def hear(self, speech: bytes) -> None:
        """Let the model listen to a turn's speech."""
        self.responder.hear(speech)

    def interrupt(self, now: float) -> None:
        """Cancel the active response, because the caller speaks."""
        self.responder.interrupt(now)

    def respond_to_turn(self, now: float) -> None:
        """Answer a turn that has ended."""
        self.responder.respond_to_turn(now)

    # Session.

    def _update_session(self, event: dict[str, Any], now: float) -> None:
        change = _without_paths(event["session"], self.faults.unread_fields)
        session = self.config.updated(change, has_spoken=self.responder.has_spoken)
        behaviour = behaviour_with(self.settings.behaviour(), session["instructions"], "session.instructions")
        first = not self.sent["session.updated"]
        detection = self.config.turn_detection
        self.config.session = session
        self.behaviour = behaviour
        if self.config.turn_detection != detection:
            self.hearing.configure()
        self.emit("session.updated", session=session)
        self.mcp.configure(session["tools"], now)
        if first and not self.settings.listen:
            self.schedule.at(now + TALK_AFTER_SECONDS, self.responder.talk)

    # Conversation.

    def _create_item(self, event: dict[str, Any], now: float) -> None:
        if event["item"]["type"] == "force_message":
            self._force_message(event["item"], now)
            return
        if len(self.conversation.items) >= MAX_ITEMS:
            raise RequestError(f"The simulator keeps {MAX_ITEMS} items.", code="too_many_items")
        item = self.read_item(event["item"], "item")
        request = self.mcp.request_of(item) if item.type == "mcp_approval_response" else None
        self.join(item, event.get("previous_item_id"))
        if request is not None and item.approve:
            self.mcp.approve(request, now)

    def read_item(self, wire: dict[str, Any], path: str) -> Item:
        """Read an item of a client event; `path` is its place in the event."""
        return read_item(
            wire, path, new_id=self.new_id, audio=self.config.input_audio, keep_audio=self.settings.keep_audio
        )

    def _force_message(self, item: dict[str, Any], now: float) -> None:
        """Say fixed text as a response.

        xAI drops the caller's audio meanwhile ("caller audio is dropped"), unless the item is interruptible.
        """
        text = " ".join(part["text"] for part in item["content"])
        said = replace(self.behaviour, say=text)
        response = self.responder.create({"tool_choice": "none"}, now, said)
        if item.get("interruptible") is False:
            self.hearing.muted_until_seconds = now + said.first_audio_seconds + response.total_ms / 1000

    def _delete_item(self, event: dict[str, Any], _now: float) -> None:
        # A reply that is being spoken continues after the deletion. This is an assumption about the real API.
        self.conversation.remove(event["item_id"])
        self.emit("conversation.item.deleted", item_id=event["item_id"])

    def _retrieve_item(self, event: dict[str, Any], _now: float) -> None:
        item = self.conversation.find(event["item_id"])
        if item is None:
            raise errors.no_such_item("retrieve", "retrieving", event["item_id"])
        self.emit("conversation.item.retrieved", item=item.wire(self.config.input_audio.encode))

    def _truncate_item(self, event: dict[str, Any], _now: float) -> None:
        # A reply that is being spoken continues, but is not remembered. This is an assumption about the real API.
        item = self.conversation.find(event["item_id"])
        if item is None:
            raise errors.no_such_item("truncate", "truncating", event["item_id"])
        content_index, audio_end_ms = event["content_index"], event["audio_end_ms"]
        if Quirk.TWO_PARTS in self.faults.quirks and content_index == 1:
            # The session keeps one part; the client's second part begins here.
            content_index, audio_end_ms = 0, audio_end_ms + FIRST_PART_DELTAS * self.behaviour.delta_ms
        item.truncate(content_index, audio_end_ms)
        self.emit(
            "conversation.item.truncated",
            item_id=item.id,
            content_index=event["content_index"],
            audio_end_ms=event["audio_end_ms"],
        )

    def join(self, item: Item, after: str | None = None) -> None:
        """Add an item to the conversation, and tell the client."""
        previous_id = self.conversation.add(item, after=after)
        wire = item.wire()
        self.emit("conversation.item.added", previous_item_id=previous_id, item=wire)
        self.emit("conversation.item.done", previous_item_id=previous_id, item=wire)

    def refuse(self, error: RequestError, event_id: str | None) -> None:
        """Answer a client event with an `error` event."""
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

"""Events of the Realtime API: repaired, and given to the object that handles their type.

Each layer looks up the type of an event once, because each layer has another question:

    worker/runner/session_host.py      Is it audio, to be timed? Only the shell has clocks.
    worker/realtime/dialect.py         Has the event another name in GA? The GA dialect itself looks nothing up.
    worker/realtime/event_repair.py    Which events would OpenAI have sent? None, one or several, of any type.
    worker/session/realtime_events.py  Which object handles the event?

The repair and the handlers have a table each. They are not one table, because the repair makes events of other
types, and holds some back: each event that it returns has to be looked up anyway.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from common.link import wire
from worker.realtime.event_repair import EventRepair
from worker.session.caller.caller_side import CallerSide
from worker.session.hand_over import HandOver
from worker.session.item_events import ItemEvents
from worker.session.lifecycle import Lifecycle
from worker.session.opening import SessionOpening
from worker.session.parts import SessionParts
from worker.session.response_events import ResponseEvents
from worker.session.restore import Restore
from worker.session.session_updates import UpdateKind
from worker.session.states import SessionEvent, State


class RealtimeEvents:
    """Handlers of one session for the events of the Realtime API."""

    def __init__(
        self,
        parts: SessionParts,
        life: Lifecycle,
        *,
        caller: CallerSide,
        hand_over: HandOver,
        items: ItemEvents,
        opening: SessionOpening,
        responses: ResponseEvents,
        restore: Restore,
    ) -> None:
        self._parts = parts
        self._life = life
        self._caller = caller
        self._hand_over = hand_over
        self._items = items
        self._opening = opening
        self._responses = responses
        self._restore = restore
        self._repair = EventRepair(parts.replay.has_replayed)

    def take(self, event: dict[str, Any], now_seconds: float) -> None:
        """Handle an event in the dialect of the service; see `Session.event` for the exceptions."""
        for each in self._repair.feed(self._parts.config.dialect.from_wire(event), now_seconds):
            self._handle(each, now_seconds)

    def tick(self, now_seconds: float) -> None:
        """Handle events that the repair has held back, and that are due."""
        for event in self._repair.tick(now_seconds):
            self._handle(event, now_seconds)

    def _handle(self, event: dict[str, Any], now_seconds: float) -> None:
        handler = _HANDLERS.get(event["type"])
        if handler is None or self._life.state is State.ENDED:
            self._life.ignored += 1
            return
        if "response_id" in event:
            self._parts.answers.progress(event["response_id"], now_seconds)
        handler(self, event, now_seconds)

    def _session_updated(self, event: dict[str, Any], now_seconds: float) -> None:
        kind = self._parts.updates.updated(event.get("session"), now_seconds)
        if self._life.state is State.CONFIGURING and kind is UpdateKind.OPENING:
            self._opening.succeeded(now_seconds)
            if self._restore.checkpoint.standby:
                self._life.advance(SessionEvent.SET_UP_TO_WAIT)
                self._parts.replay.synchronize([])
                self._parts.out.record(wire.Ready(standby=True))
                return
            started_seconds = self._opening.started_seconds
            self._restore.go_live(SessionEvent.SET_UP, started_seconds, now_seconds)
            self._parts.answers.count_wait(now_seconds - started_seconds)
        elif kind in (UpdateKind.COMMAND, UpdateKind.OWN):
            self._caller.find_turns_as_asked(now_seconds)


Handler = Callable[[RealtimeEvents, dict[str, Any], float], None]
_HANDLERS: dict[str, Handler] = {
    "session.created": lambda events, event, _: events._hand_over.session_created(event.get("lasts_seconds")),
    "session.updated": RealtimeEvents._session_updated,
    "input_audio_buffer.speech_started": lambda events, event, now: events._caller.speech_started(event, now),
    "input_audio_buffer.speech_stopped": lambda events, event, now: events._caller.speech_stopped(event, now),
    "input_audio_buffer.committed": lambda events, event, now: events._caller.committed(event, now),
    "conversation.item.added": lambda events, event, now: events._items.added(event, now),
    "conversation.item.input_audio_transcription.completed": (
        lambda events, event, now: events._items.transcribed(event, now)
    ),
    "conversation.item.input_audio_transcription.failed": (
        lambda events, event, now: events._items.transcription_failed(event, now)
    ),
    "response.created": lambda events, event, now: events._responses.created(event, now),
    "response.output_audio.delta": lambda events, event, now: events._responses.audio_delta(event, now),
    "response.output_audio.done": lambda events, event, _: events._parts.agent.audio_done(event),
    "response.output_audio_transcript.delta": lambda events, event, _: events._parts.agent.text_delta(event),
    "response.output_audio_transcript.done": lambda events, event, _: events._parts.agent.text_done(event),
    "response.output_item.added": lambda events, event, now: events._responses.output_added(event, now),
    "response.output_item.done": lambda events, event, now: events._responses.output_done(event, now),
    "response.mcp_call.completed": lambda events, event, now: events._responses.mcp_call_ended(event, now),
    "response.mcp_call.failed": lambda events, event, now: events._responses.mcp_call_ended(event, now),
    "response.done": lambda events, event, now: events._responses.done(event, now),
    "mcp_list_tools.failed": lambda events, event, now: events._responses.mcp_tools_failed(event, now),
    "rate_limits.updated": lambda events, event, now: events._items.rate_limits(event, now),
    "error": lambda events, event, now: events._responses.error(event, now),
}

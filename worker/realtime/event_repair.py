"""Repair of events of services that omit, repeat or reorder events of OpenAI's Realtime API.

The session relies on the order of the GA dialect. An item is announced before its parts, and its response is done
after them. A turn is committed before its transcript. A function call comes once, in `response.output_item.done`.
Services with the same protocol deviate from that (LocalAI, xAI, Azure, proxies). Here each event becomes the
events, none or more, that OpenAI would have sent.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

from worker.realtime.api_values import checked_id, checked_text, id_or_none

Event = dict[str, Any]

# Items and calls that are remembered; older ones do not come again.
MAX_KNOWN: Final = 64
# Parts of an item are numbered from 0; OpenAI's replies have one. A number beyond this one is taken for 0.
MAX_PARTS: Final = 1000
# Responses whose end is awaited.
MAX_RESPONSES: Final = 16
# `response.done` waits for audio of the response that was overtaken by it.
HELD_SECONDS: Final = 0.5


class EventRepair:
    """Repairs the events of one session. Events are in the GA dialect, and may be changed in place."""

    def __init__(self, is_ours: Callable[[str], bool]) -> None:
        """Build it.

        Args:
            is_ours: whether this client put the item with this id into the conversation.
        """
        self._is_ours = is_ours
        self._response_id = ""
        self._responses = 0
        self._turns = 0
        self._turn_id = ""
        self._turn_is_open = False
        self._known: OrderedDict[str, None] = OrderedDict()
        self._committed: OrderedDict[str, None] = OrderedDict()
        self._texts: OrderedDict[str, dict[int, str]] = OrderedDict()
        self._called: OrderedDict[str, None] = OrderedDict()
        self._remote_ended: OrderedDict[str, None] = OrderedDict()
        # Of active responses: the item that is being spoken, items with unfinished audio, complete arguments.
        self._item_of: dict[str, str] = {}
        self._sounding: dict[str, set[str]] = {}
        self._arguments: dict[str, list[Event]] = {}
        self._names: OrderedDict[str, str] = OrderedDict()
        self._held: tuple[Event, float] | None = None

    def feed(self, event: Event, now_seconds: float) -> list[Event]:
        """Return the events that OpenAI would have sent in place of this one.

        Raises:
            KeyError, TypeError, AttributeError: the event has not the shape of its type.
        """
        handler = _HANDLERS.get(event["type"])
        return [event] if handler is None else handler(self, event, now_seconds)

    def tick(self, now_seconds: float) -> list[Event]:
        """Events that were held back, and are due."""
        if self._held is None or now_seconds < self._held[1]:
            return []
        return self._release()

    # Replies

    def _created(self, event: Event, _: float) -> list[Event]:
        response = event["response"]
        if not response.get("id"):
            self._responses += 1
            response["id"] = f"response_{self._responses}"
        _check_ids(response["id"])
        self._response_id = response["id"]
        for each in (self._item_of, self._sounding, self._arguments):
            if len(each) > MAX_RESPONSES:
                # The end of that response was lost.
                del each[next(iter(each))]
        return [*self._release(), event]

    def _output_added(self, event: Event, _: float) -> list[Event]:
        item = event["item"]
        response_id = event.setdefault("response_id", self._response_id)
        _check_ids(response_id, item["id"])
        self._item_of[response_id] = item["id"]
        if item["type"] == "function_call" and item.get("name"):
            _note(self._names, item["id"], item["name"])
        return [event]

    def _audio_delta(self, event: Event, _: float) -> list[Event]:
        checked_text(event["delta"])
        announced = self._announce_part(event)
        self._sounding.setdefault(event["response_id"], set()).add(event["item_id"])
        return [*announced, event]

    def _audio_done(self, event: Event, _: float) -> list[Event]:
        # Another part of the item may follow, so the end of the item passes this event on.
        announced = self._announce_part(event)
        self._sounding.get(event["response_id"], set()).discard(event["item_id"])
        return [*announced, *self._release_if_complete()]

    def _text_delta(self, event: Event, _: float) -> list[Event]:
        checked_text(event["delta"])
        return [*self._announce_part(event), event]

    def _text_done(self, event: Event, _: float) -> list[Event]:
        return [*self._announce_part(event), event]

    def _transcript_done(self, event: Event, _: float) -> list[Event]:
        announced = self._announce_part(event)
        # The text of an item is the text of all its parts.
        texts = self._texts.setdefault(event["item_id"], {})
        while len(self._texts) > MAX_KNOWN:
            self._texts.popitem(last=False)
        texts[event["content_index"]] = str(event["transcript"]).strip()
        event["transcript"] = " ".join(texts[place] for place in sorted(texts))
        return [*announced, event]

    def _announce_part(self, event: Event) -> list[Event]:
        """Complete the ids and the index of a part of a reply; return the announcement of a new item."""
        response_id = event.get("response_id") or self._response_id
        item_id = event.get("item_id") or self._item_of.get(response_id) or f"{response_id}_item"
        event["response_id"], event["item_id"] = response_id, item_id
        index = event.setdefault("content_index", 0)
        _check_ids(response_id, item_id)
        if not response_id or not isinstance(index, int):
            raise TypeError("a part of no response, or with a content_index that is no number")
        if not 0 <= index <= MAX_PARTS:
            event["content_index"] = 0
        self._item_of[response_id] = item_id
        if item_id in self._known:
            return []
        _note(self._known, item_id)
        item: Event = {
            "id": item_id,
            "type": "message",
            "role": "assistant",
            "status": "in_progress",
            "content": [],
        }
        return [{"type": "conversation.item.added", "previous_item_id": None, "item": item}]

    def _output_done(self, event: Event, _: float) -> list[Event]:
        item = event["item"]
        response_id = event.setdefault("response_id", self._response_id)
        _check_ids(response_id, item["id"])
        match item["type"]:
            case "function_call":
                call_id = item["call_id"]
                _check_ids(call_id, item["name"])
                checked_text(item.get("arguments") or "")
                if call_id in self._called:
                    return []
                if item.get("status") != "incomplete":
                    _note(self._called, call_id)
                return [event]
            case "mcp_call":
                return [event, *self._remote_result(item)]
            case "message":
                self._sounding.get(response_id, set()).discard(item["id"])
                done = {
                    "type": "response.output_audio.done",
                    "response_id": response_id,
                    "item_id": item["id"],
                    "content_index": 0,
                }
                return [event, done, *self._release_if_complete()]
        return [event]

    def _arguments_done(self, event: Event, _: float) -> list[Event]:
        response_id = event.get("response_id") or self._response_id
        calls = self._arguments.setdefault(response_id, [])
        if len(calls) < MAX_KNOWN and event.get("call_id"):
            calls.append(event)
        return [event]

    def _done(self, event: Event, now_seconds: float) -> list[Event]:
        response = event["response"]
        response_id = response.get("id") or self._response_id
        response["id"] = response_id
        _check_ids(response_id)
        if self._sounding.get(response_id) and response.get("status", "completed") == "completed":
            released = self._release()
            self._held = event, now_seconds + HELD_SECONDS
            return released
        return [*self._release(), *self._complete(event)]

    def _complete(self, event: Event) -> list[Event]:
        """`response.done` behind the function calls that came nowhere else."""
        response = event["response"]
        response_id = response["id"]
        completed = response.get("status", "completed") == "completed"
        missing: list[Event] = []
        for item in response.get("output") or ():
            if item.get("type") != "function_call" or not item.get("call_id"):
                continue
            if item.get("status", "completed" if completed else "incomplete") == "completed":
                missing += self._late_call(response_id, item)
        for done in self._arguments.pop(response_id, []) if completed else ():
            name = done.get("name") or self._names.get(str(done.get("item_id")))
            if name:
                missing += self._late_call(response_id, {**done, "id": done.get("item_id"), "name": name})
        self._arguments.pop(response_id, None)
        self._item_of.pop(response_id, None)
        self._sounding.pop(response_id, None)
        return [*missing, event]

    def _late_call(self, response_id: str, call: Event) -> list[Event]:
        call_id = call["call_id"]
        _check_ids(call_id, call["name"])
        checked_text(call.get("arguments") or "")
        if call_id in self._called:
            return []
        _note(self._called, call_id)
        item = {
            "id": call.get("id") or f"item_{call_id}",
            "type": "function_call",
            "status": "completed",
            "call_id": call_id,
            "name": call["name"],
            "arguments": call.get("arguments") or "{}",
        }
        return [{"type": "response.output_item.done", "response_id": response_id, "item": item}]

    def _release(self) -> list[Event]:
        held, self._held = self._held, None
        return [] if held is None else self._complete(held[0])

    def _release_if_complete(self) -> list[Event]:
        if self._held is None or self._sounding.get(self._held[0]["response"]["id"]):
            return []
        return self._release()

    # The caller's turns

    def _speech_started(self, event: Event, _: float) -> list[Event]:
        if not event.get("item_id"):
            self._turns += 1
            event["item_id"] = f"turn_{self._turns}"
        _check_ids(event["item_id"])
        self._turn_id = event["item_id"]
        self._turn_is_open = True
        return [*self._release(), event]

    def _speech_stopped(self, event: Event, _: float) -> list[Event]:
        event["item_id"] = checked_id(event.get("item_id") or self._turn_id or "turn_0")
        self._turn_is_open = True
        return [event]

    def _commit(self, event: Event, _: float) -> list[Event]:
        item_id = event.get("item_id") or self._turn_id
        _check_ids(item_id)
        if not item_id or item_id in self._committed:
            return []
        event["item_id"] = item_id
        self._turn_is_open = False
        _note(self._committed, item_id)
        return [event]

    def _item_added(self, event: Event, _: float) -> list[Event]:
        item = event["item"]
        item_id = item["id"]
        _check_ids(item_id)
        if item_id in self._known:
            return []
        _note(self._known, item_id)
        if item["type"] == "message" and item.get("role") == "user" and not self._is_ours(item_id):
            content = item.get("content") or ()
            if any(part.get("type") == "input_audio" for part in content):
                return [*self._late_commit(item_id, id_or_none(event.get("previous_item_id"))), event]
        return [event]

    def _item_deleted(self, event: Event, _: float) -> list[Event]:
        # A rewritten item comes again under its id.
        self._known.pop(str(event.get("item_id")), None)
        return [event]

    def _item_done(self, event: Event, _: float) -> list[Event]:
        item = event["item"]
        return [event, *self._remote_result(item)] if item.get("type") == "mcp_call" else [event]

    def _transcribed(self, event: Event, _: float) -> list[Event]:
        item_id = event.get("item_id") or next(reversed(self._committed), "") or self._turn_id
        _check_ids(item_id)
        event["item_id"] = item_id
        # The transcript belongs to a turn that is not committed yet. Otherwise its item is unknown.
        return [*(self._late_commit(item_id, None) if self._turn_is_open else ()), event]

    def _late_commit(self, item_id: str, previous_item_id: str | None) -> list[Event]:
        if item_id in self._committed or self._is_ours(item_id):
            return []
        self._turn_is_open = False
        _note(self._committed, item_id)
        return [{"type": "input_audio_buffer.committed", "item_id": item_id, "previous_item_id": previous_item_id}]

    # Tools of MCP servers

    def _remote_result(self, item: Event) -> list[Event]:
        """Return the end of a remote call whose item has an output or an error."""
        if item.get("output") is None and item.get("error") is None:
            return []
        return self._remote_end({"type": "response.mcp_call.completed", "item_id": item["id"]}, 0.0)

    def _remote_end(self, event: Event, _: float) -> list[Event]:
        _check_ids(event["item_id"])
        if event["item_id"] in self._remote_ended:
            return []
        _note(self._remote_ended, event["item_id"])
        return [event]


def _check_ids(*values: object) -> None:
    """Check that all of these can be ids.

    Raises:
        TypeError, ValueError: one cannot.
    """
    for value in values:
        checked_id(value)


def _note(known: OrderedDict[str, Any], name: str, value: Any = None) -> None:
    known[name] = value
    while len(known) > MAX_KNOWN:
        known.popitem(last=False)


_HANDLERS: Final[dict[str, Callable[[EventRepair, Event, float], list[Event]]]] = {
    "response.created": EventRepair._created,
    "response.output_audio.delta": EventRepair._audio_delta,
    "response.output_audio.done": EventRepair._audio_done,
    "response.output_audio_transcript.delta": EventRepair._text_delta,
    "response.output_audio_transcript.done": EventRepair._transcript_done,
    "response.output_text.delta": EventRepair._text_delta,
    "response.output_text.done": EventRepair._text_done,
    "response.output_item.added": EventRepair._output_added,
    "response.output_item.done": EventRepair._output_done,
    "response.function_call_arguments.done": EventRepair._arguments_done,
    "response.mcp_call.completed": EventRepair._remote_end,
    "response.mcp_call.failed": EventRepair._remote_end,
    "response.done": EventRepair._done,
    "input_audio_buffer.speech_started": EventRepair._speech_started,
    "input_audio_buffer.speech_stopped": EventRepair._speech_stopped,
    "input_audio_buffer.committed": EventRepair._commit,
    "conversation.item.added": EventRepair._item_added,
    "conversation.item.deleted": EventRepair._item_deleted,
    "conversation.item.done": EventRepair._item_done,
    "conversation.item.input_audio_transcription.completed": EventRepair._transcribed,
}

"""A Realtime API for the traces: it answers a session's events, mostly as it should."""

from __future__ import annotations

from typing import Any

from tests.traces.api_tables import ENDS, ERRORS, HOSTILE, OLD_NAMES, REFUSED_FIELDS, TOOLS, USAGE, WORDS
from tests.traces.canonical import Output
from tests.traces.sound import tone
from tests.traces.world import Input, World

Event = dict[str, Any]


class ApiWorld(World):
    """The API's side of a session.

    Attributes:
        dialect: name of the dialect that the API speaks.
        badness: how likely it is that something of it goes wrong.
    """

    def __init__(self, seed: int, start_ms: int) -> None:
        super().__init__(seed, start_ms)
        self.dialect = self.weighted([(8, "ga"), (2, "beta"), (2, "xai"), (1, "azure"), (1, "azure_beta")])
        self.badness = self.one([0.0, 0.02, 0.1, 0.3])
        self.mood = "endless talk" if seed % 1000 == 507 else "hopeless" if self.chance(0.07) else ""
        self._echoes_metadata = self.chance(0.7)
        self._active = ""
        self._items: dict[str, list[str]] = {}  # of each response
        self._last_item: str | None = None
        self._turn = ""
        self._calls: list[str] = []
        self.creates_response = True
        self.appended_ms = 0

    # Events

    def event(self, delay_ms: int, kind: str, tag: str = "", /, **fields: Any) -> None:
        """Have an event sent after a while, or something like it."""
        event: Event = {"type": kind, "event_id": f"event_{self.number()}", **fields}
        if self.dialect in ("beta", "azure_beta") or (self.dialect == "xai" and self.seed % 2):
            event["type"] = OLD_NAMES.get(kind, kind)
        if self.chance(self.badness / 4):
            match self.random.randrange(5):
                case 0:
                    return  # lost
                case 1:
                    self.later(delay_ms + self.one([0, 10, 300]), "event", {**event}, tag=tag)
                case 2:
                    delay_ms += self.one([30, 300, 3000])
                case 3:
                    event.pop(self.one(sorted(event)), None)
                    event.setdefault("type", kind)
                case _:
                    event = self._bent(event)
        self.later(delay_ms, "event", event, tag=tag)

    def _bent(self, event: Event) -> Event:
        """Return the event with a hostile value somewhere."""
        name = self.one(sorted(event))
        if name == "type":
            return event
        inner = event[name]
        if isinstance(inner, dict) and inner and self.chance(0.6):
            key = self.one(sorted(inner))
            return {**event, name: {**inner, key: self.one(HOSTILE)}}
        return {**event, name: self.one(HOSTILE)}

    def error(
        self, delay_ms: int, error: tuple[str | None, str, str, str | None], event_id: str | None = None
    ) -> None:
        code, kind, message, param = error
        fields = {"type": kind, "code": code, "message": message, "param": param, "event_id": event_id}
        self.event(delay_ms, "error", error=fields)

    # What a session sends

    def receive(self, event: Event) -> None:
        """React to an event of the session's."""
        delay_ms = self.one([0, 5, 40, 120])
        is_bad = self.chance(self.badness)
        match event["type"]:
            case "session.update":
                self._update(event, delay_ms, is_bad=is_bad)
            case "response.create":
                self._create(event, delay_ms, is_bad=is_bad)
            case "response.cancel":
                if is_bad and self.chance(0.5):
                    return
                if event.get("response_id") != self._active or is_bad:
                    self.error(delay_ms, ERRORS[6], event.get("event_id"))
                else:
                    self.end_active(delay_ms, "cancelled", {"type": "cancelled", "reason": "client_cancelled"})
            case "input_audio_buffer.append":
                audio = event["audio"]
                self.appended_ms += audio["bytes"] // 48 if isinstance(audio, dict) else 0
            case "input_audio_buffer.commit":
                if is_bad:
                    self.error(delay_ms, ERRORS[10])
                else:
                    self.committed(f"item_{self.number()}", delay_ms)
            case "conversation.item.create":
                self._item_created(event, delay_ms, is_bad=is_bad)
            case "conversation.item.truncate" | "conversation.item.delete":
                if is_bad:
                    self.error(delay_ms, ERRORS[9], event.get("event_id"))

    def _update(self, event: Event, delay_ms: int, *, is_bad: bool) -> None:
        session = event["session"]
        detection = _detection(session)
        if isinstance(detection, dict):
            self.creates_response = bool(detection.get("create_response", True))
        if is_bad or self.chance(0.05):
            match self.random.randrange(6):
                case 0:
                    return
                case 1:
                    self.error(delay_ms, self.one(ENDS), event.get("event_id"))
                    return
                case 2:
                    self.error(delay_ms, self.one(ERRORS), self.one([None, event.get("event_id")]))
                    return
                case _:
                    refused = (
                        "invalid_value",
                        "invalid_request_error",
                        "Not with this model.",
                        self.one(REFUSED_FIELDS),
                    )
                    self.error(delay_ms, refused, self.one([None, event.get("event_id"), event.get("event_id")]))
                    return
        echo: Any = {**session, "id": "sess_1", "object": "realtime.session"}
        if self.chance(0.1):
            echo = self.one(
                [None, {}, {**echo, "instructions": "Others."}, {**echo, "audio": {"output": {"speed": 2.0}}}]
            )
        if self.chance(0.06):
            echo = {
                "audio": {
                    "input": {"turn_detection": {"create_response": False, "interrupt_response": self.chance(0.5)}}
                }
            }
            self.creates_response = False
        self.event(delay_ms, "session.updated", session=echo)

    def _create(self, event: Event, delay_ms: int, *, is_bad: bool) -> None:
        event_id = event.get("event_id")
        if self._active:
            self.error(delay_ms, ERRORS[5], event_id)
            return
        if is_bad:
            match self.random.randrange(4):
                case 0:
                    return
                case 1:
                    self.error(delay_ms, self.one(ERRORS), event_id)
                    return
                case 2:
                    self.error(delay_ms, self.one(ERRORS), None)
                    return
                case _:
                    delay_ms += self.one([800, 4000, 12_000])
        self.respond(delay_ms, event.get("response") or {})

    def _item_created(self, event: Event, delay_ms: int, *, is_bad: bool) -> None:
        item = event["item"]
        if item.get("type") == "force_message":
            self.respond(delay_ms, {})
        elif is_bad:
            self.error(delay_ms, self.one([ERRORS[8], ERRORS[11]]), None)
        else:
            item_id = str(item.get("id") or f"item_{self.number()}")
            added = {**item, "id": item_id, "status": "completed"}
            self.event(delay_ms, "conversation.item.added", item=added, previous_item_id=self._last_item)
            self._last_item = item_id

    # Responses

    def respond(self, delay_ms: int, request: dict[str, Any] | None) -> None:
        """Begin a response; how it goes on is drawn. `request` is None if the API begins it by itself."""
        response_id = self._active = f"resp_{self.number()}"
        self._items[response_id] = []
        metadata = (request or {}).get("metadata") if self._echoes_metadata else None
        at = delay_ms
        self._tell(at, "response.created", response_id, response=self._response("in_progress", metadata=metadata))
        kinds = [(12, "audio"), (4, "tool"), (4, "audio tool"), (1, "tool tool"), (1, "mcp"), (1, "mcp audio")]
        kinds += [(1, "approval"), (1, "text")]
        if self.badness:
            kinds += [(1, ""), (1, "begin"), (1, "endless")]
        if self.mood == "hopeless":
            kinds = [(3, ""), (1, "text"), (1, "audio")]
        parts = self.weighted(kinds).split()
        for part in parts:
            at = self._part(at, part, response_id)
        if "endless" in parts:
            return
        status, details = "completed", None
        if self.chance(0.6 if self.mood == "hopeless" else self.badness):
            status, details = self._bad_end()
        elif self.chance(0.05):
            status, details = self.one(
                [
                    ("incomplete", {"type": "incomplete", "reason": "max_output_tokens"}),
                    ("incomplete", {"type": "incomplete", "reason": "content_filter"}),
                ]
            )
        self._done(at + self.one([0, 20, 400]), response_id, status, details)

    def _bad_end(self) -> tuple[str, Any]:
        code, kind, message, _ = self.one([*ERRORS[:5], ERRORS[12], ENDS[0]])
        failed = {"type": "failed", "error": {"type": kind, "code": code, "message": message}}
        return self.one(
            [
                ("failed", failed),
                ("failed", failed),
                ("failed", None),
                ("incomplete", {"type": "incomplete", "reason": "content_filter"}),
                ("cancelled", {"type": "cancelled", "reason": "client_cancelled"}),
                ("cancelled", {"type": "cancelled", "reason": "turn_detected"}),
                ("completed", None),
            ]
        )

    def _response(self, status: str, response_id: str = "", **fields: Any) -> dict[str, Any]:
        return {
            "id": response_id or self._active,
            "object": "realtime.response",
            "status": status,
            "status_details": None,
            "output": [],
            "usage": None,
            "metadata": None,
            **fields,
        }

    def _tell(self, at: int, kind: str, tag: str, /, **fields: Any) -> None:
        self.event(at, kind, tag, **fields)

    def _done(self, at: int, response_id: str, status: str, details: Any) -> None:
        usage: Any = self.weighted([(8, USAGE), (1, None), (1, {"input_token_details": -3})])
        response = self._response(status, response_id, status_details=details, usage=usage)
        self._tell(at, "response.done", response_id, response=response)

    def end_active(self, delay_ms: int, status: str, details: Any) -> None:
        """End the response under way before its time."""
        response_id, self._active = self._active, ""
        if response_id:
            self.forget(response_id)
            if not self.chance(self.badness / 2):
                self._done(delay_ms, response_id, status, details)

    def _part(self, at: int, part: str, response_id: str) -> int:
        item_id = f"item_{self.number()}"
        self._items[response_id].append(item_id)
        here = {"response_id": response_id, "item_id": item_id, "output_index": 0, "content_index": 0}
        match part:
            case "audio" | "begin" | "endless":
                return self._speech(at, part, response_id, item_id, here)
            case "text":
                self._added(at, response_id, self._message(item_id))
                self._tell(at + 10, "response.output_text.delta", response_id, **here, delta="words ")
                self._tell(at + 20, "response.output_text.done", response_id, **here, text="words unheard")
                return at + 30
            case "tool":
                return self._tool(at, response_id, item_id)
            case "mcp":
                item = {"id": item_id, "type": "mcp_call", "name": "x", "server_label": "shop"}
                self._output(at, "added", response_id, item)
                at += self.one([10, 400])
                self._output(at, "done", response_id, item)
                if not self.chance(self.badness):
                    kind = self.one(["response.mcp_call.completed", "response.mcp_call.failed"])
                    self.event(at + self.one([0, 700]), kind, item_id=item_id, output_index=0)
                return at
        label = self.one(["shop", "other"])
        item = {
            "id": item_id,
            "type": "mcp_approval_request",
            "server_label": label,
            "name": "x",
            "arguments": "{}",
        }
        self._output(at + 5, "added", response_id, item)
        self._output(at + 10, "done", response_id, item)
        return at + 10

    def _message(self, item_id: str, status: str = "in_progress") -> dict[str, Any]:
        return {
            "id": item_id,
            "object": "realtime.item",
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": [],
        }

    def _added(self, at: int, response_id: str, item: dict[str, Any]) -> None:
        self._output(at, "added", response_id, item)
        self._tell(at, "conversation.item.added", response_id, item=item, previous_item_id=self._last_item)
        self._last_item = item["id"]

    def _output(self, at: int, how: str, response_id: str, item: dict[str, Any]) -> None:
        self._tell(
            at, f"response.output_item.{how}", response_id, response_id=response_id, output_index=0, item=item
        )

    def _speech(self, at: int, part: str, response_id: str, item_id: str, here: dict[str, Any]) -> int:
        self._added(at, response_id, self._message(item_id))
        text, start = "", 0
        for number in range(self.random.randint(1, 4)):
            words = self.one(WORDS)
            text += words
            samples = self.one([240, 2400, 4800, 24_001, 96_000])
            if self.mood == "endless talk":
                samples = 1_200_000
            place = {**here, "content_index": number} if self.chance(0.05) else here
            self._tell(at, "response.output_audio_transcript.delta", response_id, **here, delta=words)
            self._tell(
                at + 2, "response.output_audio.delta", response_id, **place, delta=tone(samples, 3000, start)
            )
            start += samples
            at += self.one([10, 50, 300])
            if part == "begin":
                return at
        if part == "endless":
            return at
        self._tell(at, "response.output_audio.done", response_id, **here)
        self._tell(at, "response.output_audio_transcript.done", response_id, **here, transcript=text)
        if self.chance(0.8):
            self._output(at, "done", response_id, self._message(item_id, "completed"))
        return at

    def _tool(self, at: int, response_id: str, item_id: str) -> int:
        name, arguments = self.one(TOOLS)
        call_id = f"call_{self.number()}"
        self._calls.append(call_id)
        item = {
            "id": item_id,
            "object": "realtime.item",
            "type": "function_call",
            "name": name,
            "call_id": call_id,
        }
        self._added(at, response_id, {**item, "status": "in_progress", "arguments": ""})
        at += self.one([10, 100])
        done = {"response_id": response_id, "item_id": item_id, "output_index": 0}
        self._tell(
            at, "response.function_call_arguments.done", response_id, **done, call_id=call_id, arguments=arguments
        )
        status = "incomplete" if self.chance(self.badness / 3) else "completed"
        self._output(at, "done", response_id, {**item, "status": status, "arguments": arguments})
        return at

    # The caller's turns, as the API finds them

    def turn(self) -> None:
        """The caller says something."""
        item_id = f"item_{self.number()}"
        self.event(
            0, "input_audio_buffer.speech_started", item_id=item_id, audio_start_ms=max(0, self.appended_ms - 200)
        )
        if self._active and not self.chance(0.1):
            self.end_active(5, "cancelled", {"type": "cancelled", "reason": "turn_detected"})
        ends = self.one([200, 600, 1500])
        if self.chance(self.badness / 2):
            return  # it never ends
        if not self.chance(self.badness / 2):
            self.event(
                ends, "input_audio_buffer.speech_stopped", item_id=item_id, audio_end_ms=self.appended_ms + ends
            )
        self.committed(item_id, ends + 1)
        if self.creates_response and not self.chance(self.badness):
            self.respond(ends + 5, None)

    def committed(self, item_id: str, delay_ms: int) -> None:
        """A turn is an item now, and gets its text late, or never."""
        previous = self._last_item
        content = [{"type": "input_audio", "transcript": None}]
        item = {"id": item_id, "object": "realtime.item", "type": "message", "status": "completed", "role": "user"}
        self.event(delay_ms, "input_audio_buffer.committed", item_id=item_id, previous_item_id=previous)
        self.event(
            delay_ms, "conversation.item.added", item={**item, "content": content}, previous_item_id=previous
        )
        self._last_item = item_id
        kind = "conversation.item.input_audio_transcription"
        at = delay_ms + self.one([10, 300, 1200, 4000])
        usage = self.one([{"type": "duration", "seconds": 1.0}, {"type": "tokens", "input_tokens": 3}, None])
        match self.weighted([(12, "text"), (2, "failed"), (1, "never")]):
            case "text":
                self.event(at - 5, f"{kind}.delta", item_id=item_id, content_index=0, delta="I ")
                text = self.one(["I want to book a table.", " Goodbye ", "", "今日は"])
                self.event(at, f"{kind}.completed", item_id=item_id, content_index=0, transcript=text, usage=usage)
            case "failed":
                error = {
                    "type": "transcription_error",
                    "code": self.one(["audio_unintelligible", None]),
                    "message": "No.",
                }
                self.event(at, f"{kind}.failed", item_id=item_id, content_index=0, error=error)

    # Unasked

    def surprise(self) -> Input:
        """Return an event that comes by itself."""
        number = self.number()
        limits = [
            {
                "name": "requests",
                "limit": 100,
                "remaining": self.one([0, 5]),
                "reset_seconds": self.one([0.5, 3.0, -1]),
            },
            {"name": "tokens", "remaining": self.one([0, 400, "many", None]), "reset_seconds": 2},
            self.one([7, {"name": "others", "remaining": 1}]),
        ]
        some_item = self._last_item or "item_0"
        some_call = self.one(self._calls) if self._calls else "call_0"
        events: list[tuple[int, Event]] = [
            (4, {"type": "rate_limits.updated", "rate_limits": limits}),
            (1, {"type": "mcp_list_tools.failed", "item_id": "mcp_0"}),
            (1, {"type": "mcp_list_tools.completed", "item_id": "mcp_0"}),
            (1, {"type": "of.next.year"}),
            (1, {"type": "input_audio_buffer.speech_started", "item_id": f"item_{number}"}),
            (
                1,
                {
                    "type": "input_audio_buffer.speech_stopped",
                    "item_id": some_item,
                    "audio_end_ms": self.one([-5, 10**9, 300]),
                },
            ),
            (1, {"type": "conversation.item.deleted", "item_id": some_item}),
            (1, {"type": "response.mcp_call.completed", "item_id": some_item}),
            (1, {"type": "response.created", "response": self._response("in_progress", f"resp_{number}")}),
            (1, {"type": "response.done", "response": self._response("completed", f"resp_{number}")}),
            (
                1,
                {
                    "type": "response.function_call_arguments.done",
                    "response_id": self._active,
                    "item_id": some_item,
                    "call_id": some_call,
                    "name": "look_up",
                    "arguments": "{}",
                },
            ),
        ]
        if self.badness:
            code, kind, message, param = self.weighted([(40, self.one(ERRORS)), (1, self.one(ENDS))])
            fields = {"type": kind, "code": code, "message": message, "param": param}
            events.append((3, {"type": "error", "error": fields}))
        event = self.weighted(events)
        if self.chance(self.badness):
            event = self._bent(event)
        return ["event", event]

    def saw_upstream(self, output: Output) -> None:
        """Keep account of what is delivered: a response that is done is not under way."""
        self.receive(output[1])

    def delivered(self, event: Event) -> None:
        """Note what the core was just given."""
        if event.get("type") == "response.done":
            response = event.get("response")
            if isinstance(response, dict) and response.get("id") == self._active:
                self._active = ""


def _detection(session: dict[str, Any]) -> Any:
    audio = session.get("audio")
    audio_input = audio.get("input") if isinstance(audio, dict) else None
    if isinstance(audio_input, dict) and "turn_detection" in audio_input:
        return audio_input["turn_detection"]
    return session.get("turn_detection")

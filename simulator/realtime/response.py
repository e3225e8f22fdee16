"""One response of the simulated model, from `response.created` to `response.done`."""

from __future__ import annotations

import base64
import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from simulator.realtime.audio import WireAudio
from simulator.realtime.conversation import Conversation, Item, Origin, Part
from simulator.realtime.ending import Ending, Output, Result
from simulator.realtime.mcp import McpServers
from simulator.realtime.settings import ToolCall
from simulator.realtime.timeline import Timeline
from simulator.realtime.usage import MODEL_AUDIO_MS_PER_TOKEN, Tokens, Usage, text_tokens
from simulator.realtime.voice import Sound
from simulator.realtime.word_times import WordTimes
from simulator.schedule import Schedule, Timer


class Stage(enum.Enum):
    """The progress of a response."""

    REQUESTED = "requested"
    CREATED = "created"
    ANNOUNCED = "announced"
    """The response's item is in the conversation."""
    ENDED = "ended"
    """The item is done, and the response is not."""
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The planned content of a response.

    Attributes:
        words: words of the reply; empty if it only calls functions.
        calls: functions and tools of MCP servers to call, after the words.
        voice: sound of the reply; None: text only.
        times: times of the words.
        delta_ms: audio in one delta.
        late_seconds: time from the request to the creation; the response is active meanwhile.
        first_audio_seconds: time from the creation to the first delta.
        speed: factor by which audio is sent faster than real time.
        ending: end of the response; None: it ends well.
    """

    words: Sequence[str]
    calls: Sequence[ToolCall]
    voice: Sound | None
    times: WordTimes
    delta_ms: int
    late_seconds: float = 0.0
    first_audio_seconds: float
    speed: float
    ending: Ending | None


class Host(Protocol):
    """The part of a session that a response uses."""

    conversation: Conversation
    schedule: Schedule
    timeline: Timeline
    mcp: McpServers

    def emit(self, kind: str, **content: Any) -> None:
        """Send a server event."""

    def new_id(self, prefix: str) -> str:
        """Return a unique id."""

    def failing(self, now: float) -> Ending | None:
        """Return the end of every response while the service is down; None: it is not."""

    def calls_made(self, response: Response, now: float) -> None:
        """Note that the response has called functions, and is about to be done."""

    def response_finished(self, response: Response, now: float) -> None:
        """Account for a response whose `response.done` was sent or lost."""


class Response:
    """A response, which speaks or calls functions until it is done or stopped.

    Attributes:
        id: id in events.
        number: position among the session's responses, from 1.
        turn: number of user messages before it.
        in_conversation: whether its items join the conversation.
        status: `in_progress`, `completed`, `cancelled`, `failed` or `incomplete`.
        status_details: reason of another end than `completed`.
        items: output of the response.
        requested_seconds: time of the request.
        started_seconds: time of the creation.
        ended_seconds: time of `response.done`.
        sent_ms: audio sent.
        total_ms: audio of the whole reply.
        usage: tokens; None until the response is done.
    """

    def __init__(
        self,
        host: Host,
        plan: Plan,
        *,
        response_id: str,
        number: int,
        turn: int,
        in_conversation: bool,
        audio: WireAudio,
        settings: dict[str, Any],
        read: Usage,
    ) -> None:
        self.id = response_id
        self.number = number
        self.turn = turn
        self.in_conversation = in_conversation
        self.status = "in_progress"
        self.status_details: dict[str, Any] | None = None
        self.items: list[Item] = []
        self.requested_seconds: float | None = None
        self.started_seconds: float | None = None
        self.ended_seconds: float | None = None
        self.sent_ms = 0
        self.total_ms = plan.times.total_ms
        self.usage: Usage | None = None
        self._host = host
        self._plan = plan
        self._audio = audio
        self._settings = settings
        self._read = read
        self._stage = Stage.REQUESTED
        self._timer: Timer | None = None

    @property
    def done(self) -> bool:
        """Tell whether `response.done` was sent."""
        return self._stage is Stage.DONE

    @property
    def _speaks(self) -> bool:
        return bool(self._plan.words) or not self._plan.calls

    @property
    def text(self) -> str:
        """Return the words of the reply."""
        return " ".join(word for item in self.items for word in item.said)

    def start(self, now: float) -> None:
        """Create the response now, or later if a fault says so."""
        self.requested_seconds = now
        if self._plan.late_seconds:
            self._host.timeline.suffered("late_response", now, now + self._plan.late_seconds)
            self._timer = self._host.schedule.at(now + self._plan.late_seconds, self._create)
        else:
            self._create(now)

    def _create(self, now: float) -> None:
        self._stage = Stage.CREATED
        self.started_seconds = now
        self._host.emit("response.created", response=self.wire())
        self._timer = self._host.schedule.at(now + self._plan.first_audio_seconds / 2, self._announce)

    def cancel(self, now: float, reason: str) -> None:
        """Stop the response; `reason` is `turn_detected` or `client_cancelled`."""
        if self._stage is Stage.REQUESTED:
            # An assumption about the real API: no response is done before it is created.
            self._stop_timer()
            self._create(now)
        self._finish(now, "cancelled", {"type": "cancelled", "reason": reason})

    def send_late(self, count: int) -> None:
        """Send `count` audio deltas after the end, as if they had been under way; they are not remembered."""
        if self.items and self._plan.voice is not None:
            for _ in range(count):
                end_ms = min(self.total_ms, self.sent_ms + self._plan.delta_ms)
                if end_ms <= self.sent_ms:
                    break
                self._emit_audio(self.items[0], end_ms)

    def wire(self) -> dict[str, Any]:
        """Return the response as events show it."""
        return {
            "object": "realtime.response",
            "id": self.id,
            "status": self.status,
            "status_details": self.status_details,
            "output": [item.wire() for item in self.items],
            "conversation_id": self._host.conversation.id if self.in_conversation else None,
            "usage": self.usage.wire() if self.usage else None,
            **self._settings,
        }

    def report(self) -> dict[str, Any]:
        """Return all that is known about the response, for people."""
        return {
            "id": self.id,
            "number": self.number,
            "turn": self.turn,
            "started_seconds": self.started_seconds,
            "ended_seconds": self.ended_seconds,
            "status": self.status,
            "status_details": self.status_details,
            "text": self.text,
            "sent_ms": self.sent_ms,
            "items": [item.id for item in self.items],
            "usage": self.usage.wire() if self.usage else None,
        }

    def _announce(self, now: float) -> None:
        ending = self._ending(now)
        if ending is not None and ending.output is Output.NONE:
            self._end(now, ending)
            return
        self._stage = Stage.ANNOUNCED
        if not self._speaks:
            self._call(now)
            return
        item = Item(
            self._host.new_id("item"),
            "message",
            Origin.MODEL,
            role="assistant",
            status="in_progress",
            times=self._plan.times,
        )
        self._add(item)
        speaks = self._plan.voice is not None
        item.parts.append(Part("output_audio" if speaks else "output_text", ""))
        part = {"type": "audio", "transcript": ""} if speaks else {"type": "text", "text": ""}
        self._emit_part("response.content_part.added", item, part=part)
        self._timer = self._host.schedule.at(now + self._plan.first_audio_seconds / 2, self._deliver)

    def _add(self, item: Item) -> dict[str, Any]:
        """Add an item, and return its place as events name it."""
        output_index = len(self.items)
        self.items.append(item)
        self._host.emit(
            "response.output_item.added", response_id=self.id, output_index=output_index, item=item.wire()
        )
        if self.in_conversation:
            previous_id = self._host.conversation.add(item)
            self._host.emit("conversation.item.added", previous_item_id=previous_id, item=item.wire())
        return {"response_id": self.id, "item_id": item.id, "output_index": output_index}

    def _deliver(self, now: float) -> None:
        ending = self._ending(now)
        limit_ms = None if ending is None else ending.after_ms
        last_ms = self.total_ms if limit_ms is None else min(self.total_ms, limit_ms)
        if self.sent_ms < last_ms:
            self._send_until(min(last_ms, self.sent_ms + self._plan.delta_ms))
        if self.sent_ms < last_ms:
            pause = self._plan.delta_ms / 1000 / self._plan.speed
            self._timer = self._host.schedule.at(now + pause, self._deliver)
        elif ending is not None:
            self._end(now, ending)
        elif self._plan.calls:
            self._end_message("completed")
            self._call(now)
        else:
            self._finish(now, "completed", None)

    def _ending(self, now: float) -> Ending | None:
        return self._host.failing(now) or self._plan.ending

    def _end(self, now: float, ending: Ending) -> None:
        """End as commanded; a lost or hung response that has sent all its audio has also ended its item."""
        if ending.commanded:
            began = now if self.started_seconds is None else self.started_seconds
            self._host.timeline.suffered("ending", began, now + ending.wait_seconds)
        if ending.status not in (Result.LOST, Result.HUNG):
            self._finish(now, ending.status, ending.details())
            return
        if ending.after_ms is None and self._stage is Stage.ANNOUNCED and self._speaks:
            self._end_message("completed")
        if ending.announced:
            self._host.emit("error", error={**ending.error(), "param": None, "event_id": None})
        if ending.status == Result.LOST:
            self._finish(now, "failed", {"type": "failed", "error": ending.error()}, sent=False)

    def _send_until(self, end_ms: int) -> None:
        item = self.items[0]
        first = self._plan.times.begun(self.sent_ms)
        words = list(self._plan.words[first : self._plan.times.begun(end_ms)])
        kind = "response.output_audio_transcript.delta" if self._plan.voice else "response.output_text.delta"
        for index, word in enumerate(words, start=first):
            self._emit_part(kind, item, delta=f" {word}" if index else word)
        if self._plan.voice is None:
            self.sent_ms = end_ms
            item.speak(words, 0)
        else:
            self._emit_audio(item, end_ms)
            item.speak(words, end_ms)

    def _emit_audio(self, item: Item, end_ms: int) -> None:
        assert self._plan.voice is not None
        data = self._audio.encode(self._plan.voice.pcm(self.sent_ms, end_ms))
        self.sent_ms = end_ms
        self._emit_part("response.output_audio.delta", item, delta=base64.b64encode(data).decode())

    def _call(self, now: float) -> None:
        ending = self._ending(now)
        cut = ending is not None
        for call in self._plan.calls[:1] if cut else self._plan.calls:
            if call.server is None:
                self._call_function(call, cut=cut)
            elif self._host.mcp.needs_approval(call.server):
                self._ask_for_approval(call)
            else:
                self._call_tool(call, now)
        if ending is not None:
            self._end(now, ending)
            return
        self._host.calls_made(self, now)
        self._finish(now, "completed", None)

    def _call_function(self, call: ToolCall, *, cut: bool) -> None:
        item = Item(
            self._host.new_id("item"),
            "function_call",
            Origin.MODEL,
            status="in_progress",
            call_id=self._host.new_id("call"),
            name=call.name,
            arguments="",
        )
        where = {"call_id": item.call_id, **self._add(item)}
        # "Also emitted when a Response is interrupted, incomplete, or cancelled" (openai, types.realtime).
        text = call.arguments[: len(call.arguments) // 2] if cut else call.arguments
        item.arguments = text
        item.status = "incomplete" if cut else "completed"
        self._host.emit("response.function_call_arguments.delta", **where, delta=text)
        self._host.emit("response.function_call_arguments.done", **where, name=call.name, arguments=text)
        self._emit_item_done(item)

    def _call_tool(self, call: ToolCall, now: float) -> None:
        # The response is done before the call is; its output comes with `conversation.item.done`.
        item = Item(
            self._host.new_id("mcp"), "mcp_call", Origin.MODEL, server=call.server, name=call.name, arguments=""
        )
        where = self._add(item)
        item.arguments = call.arguments
        self._host.emit("response.mcp_call_arguments.delta", **where, delta=call.arguments)
        self._host.emit("response.mcp_call_arguments.done", **where, arguments=call.arguments)
        self._emit_output_done(item)
        self._host.mcp.call(item, where["output_index"], now)

    def _ask_for_approval(self, call: ToolCall) -> None:
        item = Item(
            self._host.new_id("mcpr"),
            "mcp_approval_request",
            Origin.MODEL,
            server=call.server,
            name=call.name,
            arguments=call.arguments,
        )
        self._add(item)
        self._emit_item_done(item)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _finish(self, now: float, status: str, details: dict[str, Any] | None, *, sent: bool = True) -> None:
        """End the response; with `sent` false, do not tell the client."""
        if self.done:
            return
        self._stop_timer()
        if sent and self._stage is Stage.ANNOUNCED and self._speaks:
            self._end_message(status)
        self._stage = Stage.DONE
        self.status = status
        self.status_details = details
        self.ended_seconds = now
        self.usage = Usage(self._read.input, self._read.cached, self._output_tokens())
        if sent:
            self._host.emit("response.done", response=self.wire())
        self._host.response_finished(self, now)

    def _end_message(self, status: str) -> None:
        self._stage = Stage.ENDED
        item = self.items[0]
        item.status = "completed" if status == "completed" else "incomplete"
        text = " ".join(item.said)
        if self._plan.voice is None:
            self._emit_part("response.output_text.done", item, text=text)
            part = {"type": "text", "text": text}
        else:
            self._emit_part("response.output_audio.done", item)
            self._emit_part("response.output_audio_transcript.done", item, transcript=text)
            part = {"type": "audio", "transcript": text}
        self._emit_part("response.content_part.done", item, part=part)
        self._emit_item_done(item)

    def _emit_item_done(self, item: Item) -> None:
        conversation = self._host.conversation
        if self.in_conversation and item in conversation.items:
            previous_id = conversation.previous_id(item)
            self._host.emit("conversation.item.done", previous_item_id=previous_id, item=item.wire())
        self._emit_output_done(item)

    def _emit_output_done(self, item: Item) -> None:
        self._host.emit(
            "response.output_item.done",
            response_id=self.id,
            output_index=self.items.index(item),
            item=item.wire(),
        )

    def _emit_part(self, kind: str, item: Item, **content: Any) -> None:
        self._host.emit(kind, response_id=self.id, item_id=item.id, output_index=0, content_index=0, **content)

    def _output_tokens(self) -> Tokens:
        has_called = any(item.type != "message" for item in self.items)
        called = sum(text_tokens(f"{call.name}{call.arguments}") for call in self._plan.calls) if has_called else 0
        audio_ms = self.sent_ms if self._plan.voice is not None else 0
        return Tokens(called + text_tokens(self.text), audio_ms // MODEL_AUDIO_MS_PER_TOKEN)

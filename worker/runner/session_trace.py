"""The spans of one session: its turns with their parts, the model's responses, the tools, the session itself.

What the session's core does not say is read from the API's events and from what is sent to the API. Nothing here
looks at audio. A fault of an event's shape costs a span, and never the call.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from common.link import wire
from common.observe import trace_context
from common.observe.trace_context import TraceContext
from common.observe.tracing import Kind, Span, Tracer, Value, WallClock
from worker.config.profile import CallProfile
from worker.realtime.usage import MAX_TOKENS
from worker.runner.turn_trace import Turn

MAX_RESPONSES: Final = 16
"""Responses, and remote tools, that have begun and not ended: the API has one response at a time."""

MAX_NAME_CHARS: Final = 100
"""Length of a model's name, which a call may bring."""

REMOTE_TOOL: Final = "mcp"
"""Name of a tool of an MCP server."""

_PROVIDERS: Final = {"xai": "x_ai"}
_TOKENS: Final = {"input_tokens": "gen_ai.usage.input_tokens", "output_tokens": "gen_ai.usage.output_tokens"}
_STATUSES: Final = ("completed", "cancelled", "failed", "incomplete")


@dataclass(frozen=True, slots=True)
class _Response:
    """A response of the model that has begun."""

    began_seconds: float
    turn: Turn | None


class ToolSpan:
    """The span of one call of a tool.

    Attributes:
        traceparent: for the tool, whose own spans become children.
    """

    def __init__(self, trace: SessionTrace, parent: TraceContext, call_id: str) -> None:
        self._trace = trace
        self._parent = parent
        self._context = parent.new_child()
        self._call_id = call_id
        self.traceparent = self._context.traceparent

    def ended(self, name: str, began_seconds: float, outcome: str) -> None:
        """Export the span.

        Args:
            name: of the tool; `other` for a name that the model made up.
            began_seconds: when it began.
            outcome: how it ended.
        """
        self._trace.export(
            f"execute_tool {name}",
            self._context,
            self._parent,
            began_seconds,
            attributes={
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": name,
                "gen_ai.tool.type": "function",
                "gen_ai.tool.call.id": self._call_id,
                "avr.tool.outcome": outcome,
            },
            error="" if outcome == "completed" else outcome,
        )


class SessionTrace:
    """Spans of one session.

    Attributes:
        context: of the session's span.
    """

    def __init__(self, tracer: Tracer, opening: wire.Open, call: TraceContext) -> None:
        """Begin the session's span.

        Args:
            tracer: takes the spans.
            opening: the dispatcher's OPEN.
            call: context of the call's first span.
        """
        self.context = trace_context.of_session(call, opening.epoch)
        self._tracer = tracer
        self._call = call
        self._clock = WallClock()
        self._began_seconds = time.monotonic()
        self._attributes: dict[str, Value] = {
            "gen_ai.conversation.id": opening.uuid,
            "avr.session.epoch": opening.epoch,
            "avr.session.restored": opening.restore,
        }
        self._model: dict[str, Value] = {}
        self._server: dict[str, Value] = {}
        self._turn: Turn | None = None
        self._requested_seconds: float | None = None
        self._responses: dict[str, _Response] = {}
        self._remote_tools: dict[str, tuple[ToolSpan, float]] = {}

    @classmethod
    def of(cls, tracer: Tracer, opening: wire.Open) -> SessionTrace | None:
        """Return the trace of a session; None if its call has none here."""
        call = trace_context.parse(opening.traceparent) if tracer.is_on and opening.traceparent else None
        return None if call is None or not call.is_sampled else cls(tracer, opening, call)

    def prepared(self, profile: CallProfile) -> None:
        """Note the model and the service."""
        self._model = {
            "gen_ai.provider.name": _PROVIDERS.get(profile.dialect.name, "openai"),
            "gen_ai.request.model": profile.model[:MAX_NAME_CHARS],
        }
        try:
            address = urlsplit(profile.base_url).hostname
        except ValueError:
            address = None
        self._server = {"server.address": address} if address else {}

    def connected(self, began_seconds: float, error: str = "") -> None:
        """Export the span of a connection to the API that is up, or failed with a class of error."""
        attributes = {**self._model, **self._server}
        self.export(
            "connect",
            self.context.new_child(),
            self.context,
            began_seconds,
            kind=Kind.CLIENT,
            attributes=attributes,
            error=error,
        )

    # What the API says, and what it is told

    def happened(self, event: dict[str, Any], received_seconds: float) -> None:
        """Take an event of the API, except for audio."""
        match event["type"]:
            case "input_audio_buffer.speech_stopped":
                self._begin_turn(received_seconds)
            case "response.created":
                self._begin_response(event.get("response"), received_seconds)
            case "response.done":
                self._end_response(event.get("response"), received_seconds)
            case "response.output_item.added":
                self._begin_remote_tool(event.get("item"), received_seconds)
            case "response.mcp_call.completed" | "response.mcp_call.failed":
                self._end_remote_tool(event.get("item_id"), failed=event["type"].endswith("failed"))
            case _:
                pass

    def sent(self, event: dict[str, Any]) -> None:
        """Take an event for the API, except for audio."""
        now_seconds = time.monotonic()
        if event.get("type") == "input_audio_buffer.commit":
            # The end of the speech was found here.
            self._begin_turn(now_seconds)
        elif event.get("type") == "response.create":
            self._requested_seconds = now_seconds
            turn = self._turn
            # Later requests follow a tool or a fault: their time is not the wait for the first answer.
            if turn is not None and turn.requested_seconds is None and not turn.has_response:
                turn.requested_seconds = now_seconds

    def answered(self, latency_seconds: float, received_seconds: float) -> None:
        """Take the first audio of a turn's answer.

        Args:
            latency_seconds: from the end of the caller's speech to now.
            received_seconds: when the audio was read from the API's socket.
        """
        turn, now_seconds = self._turn, time.monotonic()
        if turn is None:
            return
        turn.spoke_until_seconds = min(now_seconds - latency_seconds, turn.reported_seconds)
        turn.answered_seconds = received_seconds
        loop = asyncio.get_running_loop()
        # As in `RelayTimer`: the audio has left in the third turn of the event loop.
        loop.call_soon(loop.call_soon, loop.call_soon, self._relayed, turn)

    # Tools

    def tool_began(self, call_id: str) -> ToolSpan:
        """Begin the span of a tool, within the turn that called it."""
        return ToolSpan(self, self._turn.context if self._turn is not None else self.context, call_id)

    # The end

    def ended(self, outcome: wire.Outcome) -> None:
        """Export the session's span, and the turn that is not complete."""
        self._end_turn()
        failed = outcome is not wire.Outcome.COMPLETED
        attributes = {**self._attributes, **self._model, "avr.session.outcome": outcome.value}
        self.export(
            "session",
            self.context,
            self._call,
            self._began_seconds,
            attributes=attributes,
            error="session_failed" if failed else "",
        )

    def export(
        self,
        name: str,
        context: TraceContext,
        parent: TraceContext,
        began_seconds: float,
        *,
        kind: Kind = Kind.INTERNAL,
        attributes: dict[str, Value] | None = None,
        ended_seconds: float | None = None,
        error: str = "",
    ) -> None:
        """Hand a span to the tracer; without an end, it ends now."""
        ended_ns = self._clock.ns(time.monotonic() if ended_seconds is None else ended_seconds)
        began_ns = self._clock.ns(began_seconds)
        self._tracer.ended(Span(name, context, parent, began_ns, ended_ns, kind, attributes or {}, error=error))

    # Turns

    def _begin_turn(self, reported_seconds: float) -> None:
        self._end_turn()
        self._requested_seconds = None
        self._turn = Turn(self.context.new_child(), reported_seconds)

    def _end_turn(self) -> None:
        turn, self._turn = self._turn, None
        if turn is None:
            return
        for name, began_seconds, ended_seconds in turn.waits():
            self.export(name, turn.context.new_child(), turn.context, began_seconds, ended_seconds=ended_seconds)
        attributes: dict[str, Value] = {"avr.turn.answered": turn.answered_seconds is not None}
        if turn.latency_seconds is not None:
            attributes["avr.turn.latency_seconds"] = round(turn.latency_seconds, 3)
        self.export("turn", turn.context, self.context, turn.began_seconds, attributes=attributes)

    def _relayed(self, turn: Turn) -> None:
        if turn.answered_seconds is not None:
            self.export("relay", turn.context.new_child(), turn.context, turn.answered_seconds)

    # Responses

    def _begin_response(self, response: object, received_seconds: float) -> None:
        response_id = response.get("id") if isinstance(response, dict) else None
        if not isinstance(response_id, str):
            return
        began_seconds, self._requested_seconds = self._requested_seconds, None
        if began_seconds is None:
            # The API begins by itself at the end of a turn.
            fresh = self._turn is not None and not self._turn.has_response
            began_seconds = self._turn.reported_seconds if self._turn is not None and fresh else received_seconds
        if self._turn is not None:
            self._turn.has_response = True
        self._responses[response_id] = _Response(began_seconds, self._turn)
        if len(self._responses) > MAX_RESPONSES:
            del self._responses[next(iter(self._responses))]

    # Tools of MCP servers, which the API runs

    def _begin_remote_tool(self, item: object, received_seconds: float) -> None:
        item_id = item.get("id") if isinstance(item, dict) and item.get("type") == "mcp_call" else None
        if isinstance(item_id, str) and len(self._remote_tools) < MAX_RESPONSES:
            self._remote_tools[item_id] = (self.tool_began(item_id), received_seconds)

    def _end_remote_tool(self, item_id: object, *, failed: bool) -> None:
        begun = self._remote_tools.pop(item_id, None) if isinstance(item_id, str) else None
        if begun is not None:
            span, began_seconds = begun
            # The server names its tools, so that the name may be anything.
            span.ended(REMOTE_TOOL, began_seconds, "failed" if failed else "completed")

    def _end_response(self, response: object, received_seconds: float) -> None:
        if not isinstance(response, dict) or not isinstance(response.get("id"), str):
            return
        begun = self._responses.pop(response["id"], None)
        if begun is None:
            return
        turn = begun.turn
        status = response.get("status") if response.get("status") in _STATUSES else "other"
        attributes: dict[str, Value] = {
            "gen_ai.operation.name": "chat",
            **self._model,
            **self._server,
            "gen_ai.output.type": "speech",
            "gen_ai.response.finish_reasons": (str(status),),
            **_usage(response.get("usage")),
        }
        if turn is not None and turn.answered_seconds is not None and turn.answered_seconds >= begun.began_seconds:
            first_seconds = turn.answered_seconds - begun.began_seconds
            attributes.setdefault("gen_ai.response.time_to_first_chunk", round(first_seconds, 3))
        parent = self.context if turn is None else turn.context
        self.export(
            f"chat {self._model.get('gen_ai.request.model', '')}".rstrip(),
            parent.new_child(),
            parent,
            begun.began_seconds,
            kind=Kind.CLIENT,
            attributes=attributes,
            ended_seconds=received_seconds,
            error="response_failed" if status == "failed" else "",
        )
        if turn is not None and turn is self._turn and turn.answered_seconds is not None and not _calls(response):
            self._end_turn()


def _usage(usage: object) -> dict[str, Value]:
    """Return the tokens of a response, by the names of the GenAI conventions."""
    if not isinstance(usage, dict):
        return {}
    counts = {name: usage.get(key) for key, name in _TOKENS.items()}
    details = usage.get("input_token_details")
    if isinstance(details, dict):
        counts["gen_ai.usage.cache_read.input_tokens"] = details.get("cached_tokens")
    return {name: count for name, count in counts.items() if type(count) is int and count <= MAX_TOKENS}


def _calls(response: dict[str, Any]) -> bool:
    """Return whether a response has called a function, so that another response belongs to the turn."""
    output = response.get("output")
    items = output if isinstance(output, list) else []
    return any(isinstance(item, dict) and item.get("type") == "function_call" for item in items)

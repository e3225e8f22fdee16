"""The spans of one call that its dispatcher knows: the call, its greeting, its moves, its lost sessions."""

from __future__ import annotations

import time
from typing import Final

from common.link import wire
from common.observe import trace_context
from common.observe.trace_context import TraceContext
from common.observe.tracing import Kind, Span, SpanEvent, Tracer, Value, WallClock
from dispatcher.call.actions import SPOKE_FIRST, Measurement, Metric

CALL: Final = "call"
MAX_EVENTS: Final = 128
"""Events of a call's span: OpenTelemetry's default. Later ones are counted."""

MAX_SESSIONS: Final = 64
"""Sessions whose begin is remembered; the oldest is forgotten."""

_MOVES: Final = frozenset({wire.Reason.DRAIN.value, wire.Reason.ROLLOVER.value})


class CallTrace:
    """Spans of one call.

    Attributes:
        context: of the call's span.
        parent: the span that placed the call; None: there is none.
    """

    def __init__(self, tracer: Tracer, uuid: str, traceparent: str) -> None:
        """Begin the trace, or continue the one that placed the call.

        Args:
            tracer: takes the spans.
            uuid: of the call.
            traceparent: parameter of AVR Core's URL, unchecked; empty: there was none.
        """
        self._tracer = tracer
        self._uuid = uuid
        self.parent = trace_context.parse(traceparent)
        self.context = self._begun()
        self._clock = WallClock()
        self._events: list[SpanEvent] = []
        self._events_left_out = 0
        self._sessions: dict[int, float] = {}

    def continues(self, traceparent: str) -> None:
        """Continue the trace of an earlier dispatcher, whose connection brought another `traceparent`."""
        self.parent = trace_context.parse(traceparent)
        self.context = self._begun()

    def measured(self, measurement: Measurement, now_seconds: float) -> None:
        """Take what the call measures."""
        match measurement.seen:
            case Metric.GREETING_SECONDS if measurement.label != SPOKE_FIRST:
                self._span("greeting", now_seconds - measurement.value, now_seconds)
            case Metric.RECOVERY_SECONDS:
                name = "move" if measurement.label in _MOVES else "recovery"
                attributes: dict[str, Value] = {"avr.reason": measurement.label}
                self._span(name, now_seconds - measurement.value, now_seconds, attributes)
            case Metric.INTERRUPTION:
                self._event("interruption", now_seconds)
            case _:
                pass

    def session_placed(self, epoch: int, now_seconds: float) -> None:
        """Note that a worker is asked for a session."""
        self._sessions[epoch] = now_seconds
        if len(self._sessions) > MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]

    def session_lost(self, epoch: int, now_seconds: float) -> None:
        """End the span of a session whose worker is gone, because that worker cannot.

        Args:
            epoch: at which the session was opened.
            now_seconds: when.
        """
        began_seconds = self._sessions.pop(epoch, now_seconds)
        self._export(
            Span(
                "session",
                trace_context.of_session(self.context, epoch),
                self.context,
                self._clock.ns(began_seconds),
                self._clock.ns(now_seconds),
                Kind.INTERNAL,
                {"avr.session.epoch": epoch, "gen_ai.conversation.id": self._uuid},
                error=wire.Reason.WORKER_LOST.value,
            )
        )

    def ended(self, ending: str, reason: str, *, is_failure: bool, began_seconds: float) -> None:
        """End the call's span.

        Args:
            ending: how the call is counted.
            reason: an `EndReason`.
            is_failure: the call failed or was rejected.
            began_seconds: begin of the call, here or at an earlier dispatcher.
        """
        now_seconds = time.monotonic()
        attributes: dict[str, Value] = {
            "gen_ai.conversation.id": self._uuid,
            "avr.call.ending": ending,
            "avr.call.end_reason": reason,
        }
        if self._events_left_out:
            attributes["avr.events_left_out"] = self._events_left_out
        self._export(
            Span(
                CALL,
                self.context,
                self.parent,
                self._clock.ns(began_seconds),
                self._clock.ns(now_seconds),
                Kind.SERVER,
                attributes,
                self._events,
                reason if is_failure else "",
            )
        )

    def _begun(self) -> TraceContext:
        context = trace_context.of_call(self._uuid, self.parent)
        sampled = self._tracer.is_sampled(context, self.parent, CALL)
        return TraceContext(context.trace_id, context.span_id, sampled)

    def _span(
        self, name: str, began_seconds: float, ended_seconds: float, attributes: dict[str, Value] | None = None
    ) -> None:
        began_ns, ended_ns = self._clock.ns(began_seconds), self._clock.ns(ended_seconds)
        context = self.context.new_child()
        self._export(Span(name, context, self.context, began_ns, ended_ns, Kind.INTERNAL, attributes or {}))

    def _event(self, name: str, now_seconds: float) -> None:
        if len(self._events) < MAX_EVENTS:
            self._events.append(SpanEvent(name, self._clock.ns(now_seconds)))
        else:
            self._events_left_out += 1

    def _export(self, span: Span) -> None:
        if self.context.is_sampled:
            self._tracer.ended(span)

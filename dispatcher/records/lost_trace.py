"""The end of a trace whose dispatcher died: another dispatcher exports the span of the call."""

from __future__ import annotations

from common.observe import trace_context
from common.observe.trace_context import TraceContext
from common.observe.tracing import Kind, Span, Tracer
from dispatcher.records.builder import End
from dispatcher.records.facts import CallFacts


def end_call(tracer: Tracer, uuid: str, facts: CallFacts, end: End) -> None:
    """Export the span of a lost call, unless the call had no trace.

    Args:
        tracer: takes the span.
        uuid: of the call.
        facts: what its dispatchers knew.
        end: of the call.
    """
    if not tracer.is_on or facts.trace_id is None:
        return
    parent = trace_context.parse(facts.traceparent)
    known = trace_context.of_call(uuid, parent)
    tracer.ended(
        Span(
            "call",
            TraceContext(facts.trace_id, known.span_id, is_sampled=True),
            parent,
            round(end.started_at * 1e9),
            round(end.ended_at * 1e9),
            Kind.SERVER,
            {
                "gen_ai.conversation.id": uuid,
                "avr.call.ending": end.ending,
                "avr.call.end_reason": end.reason.value,
            },
            error=end.reason.value,
        )
    )

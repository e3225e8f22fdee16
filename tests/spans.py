"""A tracer that keeps the spans of a test."""

from __future__ import annotations

from common.observe.trace_context import TraceContext
from common.observe.tracing import Span


class KeptSpans:
    """Takes spans of sampled traces.

    Attributes:
        spans: in the order of their ends.
    """

    is_on = True

    def __init__(self, *, sampled: bool = True) -> None:
        self.spans: list[Span] = []
        self._sampled = sampled

    def is_sampled(self, context: TraceContext, parent: TraceContext | None, name: str) -> bool:
        return self._sampled

    def ended(self, span: Span) -> None:
        assert span.context.is_sampled
        self.spans.append(span)

    async def stop(self) -> None:
        """Do nothing."""

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

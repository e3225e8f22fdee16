"""The collector of the benchmark counts the spans that it gets."""

from __future__ import annotations

import pytest

from common.observe import span_export
from common.observe.trace_context import TraceContext
from common.observe.tracing import Span
from tests.bench.traces import collecting
from tests.helpers import eventually

CONTEXT = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", is_sampled=True)


async def test_spans_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    async with collecting() as (endpoint, spans):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        tracer = span_export.start(
            ["otlp"], {}, role="worker", instance="w", release="1.2.3", dropped=lambda _: None
        )
        assert tracer is not None
        for _ in range(3):
            tracer.ended(Span("turn", CONTEXT.new_child(), CONTEXT, 1, 2))
        await eventually(lambda: tracer.waiting == 0)
        await tracer.stop()
    assert spans == [3]

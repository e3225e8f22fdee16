"""Spans on their way to a collector: bounds, and a collector that is slow or gone."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from structlog.testing import capture_logs

from common.observe import redaction, span_export
from common.observe.span_export import DropCounter, OpenTelemetryTracer
from common.observe.trace_context import TraceContext, of_call, parse
from common.observe.tracing import Kind, Span
from tests.helpers import eventually
from tests.trace_collector import TraceCollector

CALL = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", is_sampled=True)


class Gated(SpanExporter):
    """An exporter that waits for the test."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.is_exporting = threading.Event()
        self.names: list[str] = []
        self.result = SpanExportResult.SUCCESS

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.is_exporting.set()
        self.gate.wait()
        self.names += [span.name for span in spans]
        return self.result

    def shutdown(self) -> None:
        """Do nothing."""


def span(name: str = "turn", *, error: str = "") -> Span:
    return Span(name, CALL.new_child(), CALL, 1_000, 2_000, error=error)


@pytest.fixture
async def gated(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gated]:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
    exporter = Gated()
    yield exporter
    exporter.gate.set()


async def test_spans_over_the_bound_are_dropped_and_counted(gated: Gated) -> None:
    dropped: list[int] = []
    tracer = OpenTelemetryTracer([gated], Resource({}), dropped.append, max_waiting=3)
    with capture_logs() as lines:
        began = time.monotonic()
        for number in range(10):
            tracer.ended(span(str(number)))
        assert time.monotonic() - began < 5, "nothing waits for the collector"
        assert sum(dropped) == 7
        assert tracer.waiting == 3
    (line,) = [each for each in lines if each["event"] == "spans dropped"]
    assert line["spans"] == 1, "later ones are part of a later line"
    gated.gate.set()
    await eventually(lambda: gated.names == ["0", "1", "2"])
    tracer.ended(span("again"))
    await eventually(lambda: gated.names[3:] == ["again"])
    await tracer.stop()


async def test_spans_that_the_collector_refuses_are_counted(gated: Gated) -> None:
    dropped: list[int] = []
    gated.result = SpanExportResult.FAILURE
    gated.gate.set()
    tracer = OpenTelemetryTracer([gated], Resource({}), dropped.append)
    tracer.ended(span())
    await eventually(lambda: dropped == [1])
    assert tracer.waiting == 0
    await tracer.stop()


async def test_stop_waits_for_a_slow_collector_only_so_long(gated: Gated) -> None:
    dropped: list[int] = []
    tracer = OpenTelemetryTracer([gated], Resource({}), dropped.append, flush_seconds=0.1)
    tracer.ended(span())
    await asyncio.to_thread(gated.is_exporting.wait)
    await asyncio.wait_for(tracer.stop(), 20)
    assert dropped == [1]


def test_collector_that_answers_after_the_end_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    exporter = Gated()

    async def end_early() -> None:
        tracer = OpenTelemetryTracer([exporter], Resource({}), lambda _: None, flush_seconds=0.01)
        tracer.ended(span())
        await asyncio.to_thread(exporter.is_exporting.wait)
        await tracer.stop()

    asyncio.run(end_early())
    threads = [each for each in threading.enumerate() if each.name == "end-of-traces"]
    errors: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", errors.append)
    exporter.gate.set()
    for thread in threads:
        thread.join(20)
    assert threads
    assert (errors, [each for each in threads if each.is_alive()]) == ([], [])


async def test_stop_exports_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")
    exporter = Gated()
    exporter.gate.set()
    tracer = OpenTelemetryTracer([exporter], Resource({}), lambda _: None, flush_seconds=20)
    tracer.ended(span("last"))
    await tracer.stop()
    assert exporter.names == ["last"]


async def test_span_that_the_sdk_refuses_is_dropped_and_counted(gated: Gated) -> None:
    dropped: list[int] = []
    tracer = OpenTelemetryTracer([gated], Resource({}), dropped.append)
    tracer.ended(Span("turn", TraceContext("no", "hex", is_sampled=True), CALL, 1, 2))
    assert (dropped, tracer.waiting) == ([1], 0)
    gated.gate.set()
    await tracer.stop()


def test_drops_are_logged_once_a_minute() -> None:
    now = [0.0]
    counter = DropCounter(lambda _: None, clock=lambda: now[0])
    with capture_logs() as lines:
        counter.add(1, "first")
        counter.add(2, "second")
        now[0] = span_export.REPORT_SECONDS
        counter.add(3, "third")
    assert [(line["spans"], line["reason"]) for line in lines] == [(1, "first"), (5, "third")]


@pytest.mark.parametrize(
    ("sampler", "argument", "parent_flags", "sampled"),
    [
        ("", "", None, True),
        ("", "", "00", False),
        ("", "", "01", True),
        ("always_off", "", None, False),
        ("parentbased_traceidratio", "0", None, False),
        ("parentbased_traceidratio", "0", "01", True),
        ("traceidratio", "1", "00", True),
    ],
)
async def test_standard_samplers_decide(
    sampler: str, argument: str, parent_flags: str | None, sampled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sampler:
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
        monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument)
    exporter = Gated()
    exporter.gate.set()
    tracer = OpenTelemetryTracer([exporter], Resource({}), lambda _: None)
    parent = None if parent_flags is None else parse(f"00-{CALL.trace_id}-{CALL.span_id}-{parent_flags}")
    assert tracer.is_sampled(of_call("call", parent), parent, "call") is sampled
    await tracer.stop()


async def test_collector_gets_ids_times_and_the_class_of_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.name=mine")
    with TraceCollector() as collector:
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_EXPORTER_OTLP_HEADERS": "x-key=not%20for%20logs",
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        tracer = span_export.start(
            ["otlp"], variables, role="worker", instance="w-1", release="1.2.3", dropped=lambda _: None
        )
        assert tracer is not None
        child = CALL.new_child()
        attributes: dict[str, Any] = {"avr.session.epoch": 1}
        tracer.ended(
            Span("session", child, CALL, 1_000_000_000, 2_500_000_000, Kind.CLIENT, attributes, error="lost")
        )
        tracer.ended(Span("call", CALL, None, 0, 1))
        await eventually(lambda: collector.named("call"))
        (session,), (call,) = collector.named("session"), collector.named("call")
        assert (session.trace_id, session.span_id, session.parent_id) == (
            CALL.trace_id,
            child.span_id,
            CALL.span_id,
        )
        assert (session.began_seconds, session.seconds, session.kind) == (1.0, 1.5, 3)
        assert session.attributes == {"avr.session.epoch": 1, "error.type": "lost"}
        assert session.is_error
        assert (call.span_id, call.parent_id, call.is_error) == (CALL.span_id, "", False)
        expected = {"service.name": "mine", "deployment.environment.name": "test", "service.instance.id": "w-1"}
        expected["service.version"] = "1.2.3"
        assert expected.items() <= session.resource.items()
        assert collector.metadata[0]["x-key"] == "not for logs"
        assert "not for logs" not in redaction.without_known("a line, not for logs, x")
        await tracer.stop()


@pytest.mark.parametrize(
    ("names", "variables", "reason"),
    [
        (["zipkin"], {}, "zipkin"),
        (["otlp"], {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "http/json"),
        (["console"], {"OTEL_BSP_MAX_QUEUE_SIZE": "5"}, "max_export_batch_size"),
    ],
)
def test_wrong_variable_is_named_and_calls_go_on(names: list[str], variables: dict[str, str], reason: str) -> None:
    with capture_logs() as lines:
        assert (
            span_export.start(
                names, variables, role="worker", instance="w", release="1.2.3", dropped=lambda _: None
            )
            is None
        )
    (line,) = lines
    assert reason in line["reason"]

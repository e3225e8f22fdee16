"""Spans on their way to a collector, by OpenTelemetry's SDK: the only module that imports it.

A thread of the SDK exports spans in batches. At `OTEL_BSP_MAX_QUEUE_SIZE` waiting spans (2048), further ones are
dropped and counted. So are the spans of a batch that the collector did not take. Calls never wait for a collector.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import unquote

# gRPC's own library would write its errors to stderr beside the log lines.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import (
    SERVICE_INSTANCE_ID,
    SERVICE_NAME,
    SERVICE_VERSION,
    OTELResourceDetector,
    Resource,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from common.observe import logs, redaction
from common.observe.trace_context import TraceContext
from common.observe.tracing import Kind, Span

SERVICE: Final = "avr-sts-openai"
FLUSH_SECONDS: Final = 0.5
"""Maximum time at the end of the process for the export of waiting spans: a part of the 2 s that a process has to
stop (common/runtime/process.py)."""

MAX_WAITING: Final = 2048
"""Spans that wait for the collector, unless OTEL_BSP_MAX_QUEUE_SIZE says otherwise: its default."""

REPORT_SECONDS: Final = 60.0
"""Minimum time between two log lines about dropped spans."""

_KINDS: Final = {Kind.INTERNAL: SpanKind.INTERNAL, Kind.SERVER: SpanKind.SERVER, Kind.CLIENT: SpanKind.CLIENT}
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_HEADERS: Final = ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS")

_log = logs.get_logger()


class DropCounter:
    """Counts dropped spans, and logs them at most once a minute."""

    def __init__(self, dropped: Callable[[int], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._count = dropped
        self._clock = clock
        self._lock = threading.Lock()
        self._unreported = 0
        self._reported_seconds = float("-inf")

    def add(self, spans: int, reason: str) -> None:
        """Count dropped spans; any thread may call this."""
        self._count(spans)
        with self._lock:
            self._unreported += spans
            now = self._clock()
            if now - self._reported_seconds < REPORT_SECONDS:
                return
            self._reported_seconds = now
            unreported, self._unreported = self._unreported, 0
        _log.warning("spans dropped", spans=unreported, reason=reason, effect="traces are incomplete, calls go on")


class CountedExporter(SpanExporter):
    """An exporter that counts the spans that it has finished with.

    Attributes:
        finished: number of spans that were exported or dropped.
    """

    def __init__(self, exporter: SpanExporter, dropped: DropCounter) -> None:
        self.finished = 0
        self._exporter = exporter
        self._dropped = dropped

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export a batch; runs in the thread of the batch processor, and may wait for the collector."""
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            if result is not SpanExportResult.SUCCESS:
                self._dropped.add(len(spans), "the collector did not take them")
            self.finished += len(spans)
        return result

    def shutdown(self) -> None:
        """End the exporter, which breaks off an export."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Return True: this exporter keeps nothing."""
        return self._exporter.force_flush(timeout_millis)


class _KnownIds(IdGenerator):
    """Gives the next span the ids that its context has: other processes know them already."""

    def __init__(self) -> None:
        self.next = TraceContext("0" * 32, "0" * 16, is_sampled=False)

    def generate_trace_id(self) -> int:
        return int(self.next.trace_id, 16)

    def generate_span_id(self) -> int:
        return int(self.next.span_id, 16)


class OpenTelemetryTracer:
    """The tracer of one process, with exporters of OpenTelemetry.

    Call it on one thread.
    """

    is_on = True

    def __init__(
        self,
        exporters: Sequence[SpanExporter],
        resource: Resource,
        dropped: Callable[[int], None],
        *,
        max_waiting: int = MAX_WAITING,
        flush_seconds: float = FLUSH_SECONDS,
    ) -> None:
        """Start a thread for each exporter.

        Args:
            exporters: take the spans.
            resource: this process.
            dropped: called with the number of spans that were dropped, by any thread.
            max_waiting: spans that wait for an exporter.
            flush_seconds: maximum time of `stop`.

        Raises:
            ValueError: OTEL_BSP_* are not valid.
        """
        self._dropped = DropCounter(dropped)
        self._max_waiting = max_waiting
        self._flush_seconds = flush_seconds
        self._ids = _KnownIds()
        self._handed_over = 0
        # What the environment says of samplers decides once for each call; then all its spans are kept.
        self._sampler = TracerProvider(shutdown_on_exit=False).sampler
        self._provider = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False, id_generator=self._ids)
        self._exporters = [CountedExporter(each, self._dropped) for each in exporters]
        self._processors = [BatchSpanProcessor(each, max_queue_size=max_waiting) for each in self._exporters]
        for processor in self._processors:
            self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer(SERVICE)

    def is_sampled(self, context: TraceContext, parent: TraceContext | None, name: str) -> bool:
        """Ask the sampler that OTEL_TRACES_SAMPLER names."""
        around = None if parent is None else _within(parent)
        result = self._sampler.should_sample(around, int(context.trace_id, 16), name, SpanKind.SERVER)
        return result.decision is Decision.RECORD_AND_SAMPLE

    def ended(self, span: Span) -> None:
        """Queue a span for its export, or drop and count it."""
        if self.waiting >= self._max_waiting:
            self._dropped.add(1, "too many wait for the collector")
            return
        try:
            self._hand_over(span)
        except Exception as error:
            # A call must not fail for its trace, whatever the SDK raises.
            self._dropped.add(1, type(error).__name__)
        else:
            self._handed_over += 1

    def _hand_over(self, span: Span) -> None:
        self._ids.next = span.context
        attributes = {**span.attributes, "error.type": span.error} if span.error else span.attributes
        made = self._tracer.start_span(
            span.name,
            Context() if span.parent is None else _within(span.parent),
            _KINDS[span.kind],
            attributes,
            start_time=span.began_ns,
        )
        for event in span.events:
            made.add_event(event.name, timestamp=event.at_ns)
        if span.error:
            made.set_status(Status(StatusCode.ERROR))
        made.end(max(span.began_ns, span.ended_ns))

    @property
    def waiting(self) -> int:
        """Spans that wait for the slowest exporter."""
        return self._handed_over - min(each.finished for each in self._exporters)

    async def stop(self) -> None:
        """Export the spans that wait; drop and count those that are left after `flush_seconds`."""
        loop = asyncio.get_running_loop()
        is_done = asyncio.Event()

        def end() -> None:
            for processor in self._processors:
                processor.shutdown()  # type: ignore[no-untyped-call]
            # A collector that answers after `flush_seconds` may find the event loop closed: nobody waits for it.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(is_done.set)

        # The thread of an exporter may wait for its collector: the process ends without that thread.
        threading.Thread(target=end, name="end-of-traces", daemon=True).start()
        try:
            await asyncio.wait_for(is_done.wait(), self._flush_seconds)
        except TimeoutError:
            self._dropped.add(self.waiting, "the process ends")


def start(
    names: Sequence[str],
    variables: Mapping[str, str],
    *,
    role: str,
    instance: str,
    release: str,
    dropped: Callable[[int], None],
) -> OpenTelemetryTracer | None:
    """Return a tracer with the named exporters; None, with a log line, if there cannot be one.

    Args:
        names: of exporters: `otlp`, `console`.
        variables: the environment.
        role: of the process.
        instance: id of the process.
        release: of the service.
        dropped: called with the number of spans that were dropped, by any thread.
    """
    redaction.know("otel", _secrets(variables))
    try:
        made = [_exporter(name, variables) for name in names]
        tracer = OpenTelemetryTracer(
            made, _resource(role, instance, release), dropped, max_waiting=_max_waiting(variables)
        )
    except Exception as error:
        # The SDK raises anything for a wrong variable: an address, a file of a certificate, a number.
        reason = redaction.without_known(f"{type(error).__name__}: {error}")
        _log.error(
            "traces could not be set up", reason=reason, effect="calls are not traced", remedy="check OTEL_*"
        )
        return None
    # From now on a line for each failed batch would follow. `DropCounter` reports these.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    _log.info("calls are traced", exporters=list(names))
    return tracer


def _exporter(name: str, variables: Mapping[str, str]) -> SpanExporter:
    """Return the exporter with this name.

    Raises:
        ValueError: there is none, or not for this protocol.
    """
    if name == "console":
        return ConsoleSpanExporter()
    if name != "otlp":
        raise ValueError(f"OTEL_TRACES_EXPORTER={name[:64]} is not known: give otlp, console or none")
    protocol = next((variables[each].strip() for each in _PROTOCOLS if variables.get(each, "").strip()), "grpc")
    if protocol != "grpc":
        raise ValueError(f"OTEL_EXPORTER_OTLP_PROTOCOL={protocol[:64]} is not supported: give grpc (port 4317)")
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - gRPC alone

    return OTLPSpanExporter()


def _resource(role: str, instance: str, release: str) -> Resource:
    """Return the resource of this process; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win."""
    ours = {SERVICE_NAME: SERVICE, SERVICE_VERSION: release, SERVICE_INSTANCE_ID: instance, "avr.role": role}
    return Resource.create({**ours, **OTELResourceDetector().detect().attributes})


def _max_waiting(variables: Mapping[str, str]) -> int:
    written = variables.get("OTEL_BSP_MAX_QUEUE_SIZE", "").strip()
    return int(written) if written.isdecimal() and int(written) else MAX_WAITING


def _secrets(variables: Mapping[str, str]) -> list[str]:
    """Return the values of the headers that the collector gets: most often a key."""
    headers = ",".join(variables.get(name, "") for name in _HEADERS)
    values = [each.partition("=")[2].strip() for each in headers.split(",")]
    return [value for each in values for value in {each, unquote(each)} if value]


def _within(parent: TraceContext) -> Context:
    """Return the parent as OpenTelemetry has it."""
    flags = TraceFlags(TraceFlags.SAMPLED if parent.is_sampled else TraceFlags.DEFAULT)
    context = SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(NonRecordingSpan(context))

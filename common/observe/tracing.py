"""Traces: what the shells of calls hand over as spans, and whether anything takes them.

The standard variables `OTEL_*` switch traces on, and are read by OpenTelemetry's SDK itself (`span_export.py`).
Without them there is `NO_TRACER`, and no exporter is imported.
"""

from __future__ import annotations

import enum
import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from typing import Protocol as Interface

from common.observe import logs
from common.observe.trace_context import TraceContext

EXTRA: Final = "pip install 'avr-sts-openai[otel]'"

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_CLOCK_READS: Final = 5

Value = str | bool | int | float | tuple[str, ...]

_log = logs.get_logger()


class Kind(enum.Enum):
    """Side of a request that a span shows."""

    INTERNAL = "internal"
    SERVER = "server"
    CLIENT = "client"


@dataclass(frozen=True, slots=True)
class SpanEvent:
    """Something that happened within a span.

    Attributes:
        name: of the event.
        at_ns: time, in nanoseconds since the epoch.
    """

    name: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a call that has ended.

    Attributes:
        name: of the part.
        context: of the span.
        parent: None: the span begins its trace.
        began_ns: begin, in nanoseconds since the epoch.
        ended_ns: end.
        kind: see `Kind`.
        attributes: names and values; neither words of the call nor numbers of people.
        events: in order.
        error: class of the fault (`error.type`); empty: there was none.
    """

    name: str
    context: TraceContext
    parent: TraceContext | None
    began_ns: int
    ended_ns: int
    kind: Kind = Kind.INTERNAL
    attributes: Mapping[str, Value] = field(default_factory=dict)
    events: Sequence[SpanEvent] = ()
    error: str = ""


class WallClock:
    """Times of the monotonic clock as wall-clock times.

    One call has one, because a step of the wall clock must not move its spans against each other.
    """

    def __init__(self) -> None:
        gaps: list[tuple[int, int]] = []
        for _ in range(_CLOCK_READS):
            before, wall, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
            gaps.append((after - before, wall - (before + after) // 2))
        self._offset_ns = min(gaps)[1]

    def ns(self, seconds: float) -> int:
        """Return a time of the monotonic clock in nanoseconds since the epoch."""
        return self._offset_ns + round(seconds * 1e9)


class Tracer(Interface):
    """Takes the spans of one process."""

    @property
    def is_on(self) -> bool:
        """Whether spans go anywhere."""

    def is_sampled(self, context: TraceContext, parent: TraceContext | None, name: str) -> bool:
        """Decide whether the trace of a call is exported; asked once for each call."""

    def ended(self, span: Span) -> None:
        """Take a span; does not wait, and does not raise."""

    async def stop(self) -> None:
        """Export the spans that wait, for a bounded time."""


class NoTracer:
    """Takes no spans."""

    is_on = False

    def is_sampled(self, context: TraceContext, parent: TraceContext | None, name: str) -> bool:
        """Return False."""
        return False

    def ended(self, span: Span) -> None:
        """Do nothing."""

    async def stop(self) -> None:
        """Do nothing."""


NO_TRACER: Final = NoTracer()


def exporters(variables: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of the exporters that the environment asks for.

    Traces are off by default, unlike in OpenTelemetry's own agents: an exporter or an endpoint switches them on.
    Empty variables count as unset (OpenTelemetry's specification of environment variables, read 2026-11-30).
    """
    if variables.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ()
    named = variables.get("OTEL_TRACES_EXPORTER", "").strip()
    if not named and any(variables.get(name, "").strip() for name in _ENDPOINTS):
        named = "otlp"
    names = tuple(dict.fromkeys(name.strip().lower() for name in named.split(",")))
    return () if "none" in names else tuple(name for name in names if name)


def start(
    variables: Mapping[str, str], *, role: str, instance: str, release: str, dropped: Callable[[int], None]
) -> Tracer:
    """Return a tracer as the environment asks for it; `NO_TRACER` where it does not, or where it cannot be.

    Args:
        variables: the environment.
        role: of the process: `dispatcher` or `worker`.
        instance: id of the process.
        release: of the service.
        dropped: called with the number of spans that were dropped, by any thread.
    """
    names = exporters(variables)
    if not names:
        return NO_TRACER
    try:
        # 200 ms and an optional package, which mypyc must not look for either.
        span_export = importlib.import_module("common.observe.span_export")
    except ImportError as error:
        effect = "calls are not traced"
        _log.warning(
            "OTEL_* is set and OpenTelemetry is not installed", missing=error.name, remedy=EXTRA, effect=effect
        )
        return NO_TRACER
    tracer: Tracer | None = span_export.start(
        names, variables, role=role, instance=instance, release=release, dropped=dropped
    )
    return tracer or NO_TRACER

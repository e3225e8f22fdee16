"""What a call counts and measures, as metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prometheus_client import Counter

from common.observe.metrics import DispatcherMetrics, RecoveryReason, RepinReason
from dispatcher.call.actions import Ending, Measurement, Metric


def report(metrics: DispatcherMetrics, measurement: Measurement) -> None:
    """Count or measure something."""
    _REPORTS[measurement.seen](metrics, measurement.value, measurement.label)


def count_end(metrics: DispatcherMetrics, ending: Ending) -> None:
    """Count a call that ended; a call that moved to another dispatcher is counted there."""
    if ending is not Ending.MOVED:
        _ENDINGS[ending](metrics).inc()


def _repinned(metrics: DispatcherMetrics, reason: str) -> None:
    # A worker of a newer release may have reasons that this one does not count.
    if reason in {each.value for each in RepinReason}:
        metrics.repins[RepinReason(reason)].inc()


def _recovered(metrics: DispatcherMetrics, seconds: float, reason: str) -> None:
    if reason in {each.value for each in RecoveryReason}:
        metrics.recovery[RecoveryReason(reason)].observe(seconds)


_ENDINGS: Final[dict[Ending, Callable[[DispatcherMetrics], Counter]]] = {
    Ending.COMPLETED: lambda metrics: metrics.calls_completed,
    Ending.REJECTED: lambda metrics: metrics.calls_rejected,
    Ending.FAILED: lambda metrics: metrics.calls_failed,
}
_REPORTS: Final[dict[Metric, Callable[[DispatcherMetrics, float, str], None]]] = {
    Metric.BAD_INPUT: lambda metrics, _, reason: metrics.bad_input.inc(reason),
    Metric.INTERRUPTION: lambda metrics, _, __: metrics.interruptions.inc(),
    Metric.DIGIT: lambda metrics, _, __: metrics.dtmf_digits.inc(),
    Metric.GREETING_SECONDS: lambda metrics, seconds, _: metrics.greeting_latency.observe(seconds),
    Metric.CALLER_AUDIO_DROPPED_SECONDS: lambda metrics, seconds, _: metrics.audio_dropped_in.inc(seconds),
    Metric.REPIN: lambda metrics, _, reason: _repinned(metrics, reason),
    Metric.RECOVERY_SECONDS: _recovered,
}

"""What a call counts and measures, as metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from common.observe.call_outcome import CallOutcome, EndReason
from common.observe.metrics import DispatcherMetrics, RecoveryReason, RepinReason
from dispatcher.call.actions import SPOKE_FIRST, Ending, Measurement, Metric
from dispatcher.records.call_record import CallRecord


def report(metrics: DispatcherMetrics, measurement: Measurement) -> None:
    """Count or measure something."""
    _REPORTS[measurement.seen](metrics, measurement.value, measurement.label)


def count_end(metrics: DispatcherMetrics, ending: Ending, reason: EndReason, tenant: str) -> None:
    """Count a call that ended; a call that moved to another dispatcher is counted there."""
    if ending is not Ending.MOVED:
        metrics.call_ended(_OUTCOMES[ending], reason, tenant)


def measure_duration(metrics: DispatcherMetrics, ending: Ending, seconds: float, tenant: str) -> None:
    """Measure the duration of a call that ended, unless it was rejected or another dispatcher has it."""
    if ending not in (Ending.MOVED, Ending.REJECTED):
        metrics.call_lasted(seconds, tenant)


def count_lost(metrics: DispatcherMetrics, record: CallRecord) -> None:
    """Count a call whose dispatcher died, and whose caller did not come back."""
    tenant = record.tenant or ""
    metrics.call_ended(CallOutcome.FAILED, EndReason.LOST, tenant)
    metrics.call_lasted(record.ended_at - record.started_at, tenant)


def _greeted(metrics: DispatcherMetrics, seconds: float, label: str) -> None:
    if label != SPOKE_FIRST:
        metrics.greeting_latency.observe(seconds)


def _repinned(metrics: DispatcherMetrics, reason: str) -> None:
    # A worker of a newer release may have reasons that this one does not count.
    if reason in {each.value for each in RepinReason}:
        metrics.repins[RepinReason(reason)].inc()


def _recovered(metrics: DispatcherMetrics, seconds: float, reason: str) -> None:
    if reason in {each.value for each in RecoveryReason}:
        metrics.recovery[RecoveryReason(reason)].observe(seconds)


_OUTCOMES: Final = {
    Ending.COMPLETED: CallOutcome.COMPLETED,
    Ending.REJECTED: CallOutcome.REJECTED,
    Ending.FAILED: CallOutcome.FAILED,
}
_REPORTS: Final[dict[Metric, Callable[[DispatcherMetrics, float, str], None]]] = {
    Metric.BAD_INPUT: lambda metrics, _, reason: metrics.bad_input.inc(reason),
    Metric.INTERRUPTION: lambda metrics, _, __: metrics.interruptions.inc(),
    Metric.DIGIT: lambda metrics, _, __: metrics.dtmf_digits.inc(),
    Metric.GREETING_SECONDS: _greeted,
    Metric.CALLER_AUDIO_DROPPED_SECONDS: lambda metrics, seconds, _: metrics.audio_dropped_in.inc(seconds),
    Metric.CALLER_GAP_SECONDS: lambda metrics, seconds, _: metrics.caller_gap(seconds),
    Metric.CALLER_JITTER_SECONDS: lambda metrics, seconds, _: metrics.caller_audio_jitter.observe(seconds),
    Metric.CALLER_LEVEL_DBFS: lambda metrics, dbfs, _: metrics.caller_audio_level.observe(dbfs),
    Metric.REPIN: lambda metrics, _, reason: _repinned(metrics, reason),
    Metric.RECOVERY_SECONDS: _recovered,
}

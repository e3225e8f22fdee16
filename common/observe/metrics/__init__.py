"""All metrics of the service, and `/metrics`.

A role creates only its own metrics, once, with `dispatcher()`, `worker()` or `supervisor()`, and those of its
process with `ProcessMetrics`. No gauge is exported by two roles, unless it has the label `process`. All series
whose labels are known exist from then on, at 0. The children of labelled metrics are attributes, so that the audio
path needs no look-up.

In a cluster a process exports its own values. In `serve` all processes keep their values in files under one
directory (`share`). Any dispatcher exports the values of all. Counters and histograms of a dead process stay, its
gauges disappear. `share` must be called before the first metric is created.

No label can identify a call. Most labels have a fixed set of values. Other labels have values that another party
chooses: a model, a tool, an error code. There a value that looks like a uuid or a number is counted as `other`.
"""

from __future__ import annotations

import functools

from common.observe.label_values import OTHER
from common.observe.metrics.bounded import MAX_LABEL_VALUES, BoundedCounter
from common.observe.metrics.call_process import LastingTask
from common.observe.metrics.dispatcher_metrics import (
    DispatcherMetrics,
    FallbackOutcome,
    RecoveryReason,
    RepinReason,
)
from common.observe.metrics.process_metrics import ProcessMetrics
from common.observe.metrics.series import CONTENT_TYPE, calls_active, mark_process_dead, render, share, totals
from common.observe.metrics.supervisor_metrics import SupervisorMetrics
from common.observe.metrics.worker_metrics import (
    RATE_LIMITS,
    TURN_PARTS,
    KeyOwner,
    ReconnectReason,
    RetryReason,
    TokenCounters,
    ToolMetrics,
    WorkerMetrics,
)

__all__ = [
    "CONTENT_TYPE",
    "MAX_LABEL_VALUES",
    "OTHER",
    "RATE_LIMITS",
    "TURN_PARTS",
    "BoundedCounter",
    "DispatcherMetrics",
    "FallbackOutcome",
    "KeyOwner",
    "LastingTask",
    "ProcessMetrics",
    "ReconnectReason",
    "RecoveryReason",
    "RepinReason",
    "RetryReason",
    "SupervisorMetrics",
    "TokenCounters",
    "ToolMetrics",
    "WorkerMetrics",
    "calls_active",
    "dispatcher",
    "mark_process_dead",
    "render",
    "share",
    "supervisor",
    "totals",
    "worker",
]


@functools.cache
def dispatcher() -> DispatcherMetrics:
    """Return the dispatcher's metrics, created by the first call."""
    return DispatcherMetrics()


@functools.cache
def worker() -> WorkerMetrics:
    """Return the worker's metrics, created by the first call."""
    return WorkerMetrics()


@functools.cache
def supervisor() -> SupervisorMetrics:
    """Return the metrics of `serve`'s parent, created by the first call."""
    return SupervisorMetrics()

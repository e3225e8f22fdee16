"""The metrics that dispatchers and workers share."""

from __future__ import annotations

import functools
from enum import StrEnum
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from common.observe.metrics.series import counter, gauge, histogram

_RELAY_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
CALL_SECONDS: Final = (10, 30, 60, 120, 180, 300, 600, 900, 1200, 1800, 2700, 3600)
"""Bounds for the duration of a call or a session."""
_LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)


@functools.cache
def _relay_seconds() -> Histogram:
    return histogram(
        "relay_seconds", "Time a frame spends inside one process", _RELAY_SECONDS, "process", "direction"
    )


@functools.cache
def _event_loop_lag_seconds() -> Histogram:
    return histogram(
        "event_loop_lag_seconds", "Delay of the event loop beyond the scheduled time", _LAG_SECONDS, "process"
    )


@functools.cache
def _grouping_interval_seconds() -> Gauge:
    text = "Interval at which sockets are read, because the process is busy; 0: they are read at once"
    return gauge("grouping_interval_seconds", text, "livemax", "process")


@functools.cache
def _audio_dropped_seconds() -> Counter:
    return counter("audio_dropped_seconds", "Audio dropped because a bound was reached", "direction")


@functools.cache
def _task_failures() -> Counter:
    return counter("task_failures", "Failed steps of tasks that run as long as the process", "process", "task")


LINES_DROPPED: Final = "Log lines dropped because their reader was too slow"


@functools.cache
def of_process(name: str, text: str) -> Counter:
    """Return the counter of this name, which each kind of process has."""
    return counter(name, text, "process")


class LastingTask(StrEnum):
    """A task that runs as long as its process."""

    TICK = "tick"
    """The clock of the process's calls."""
    PUBLISH = "publish"
    """The renewal of leases in Redis: a worker's own, or a dispatcher's calls."""
    RECORD = "record"
    """The state of recordings in Redis, and requests to pause them."""
    SWEEP = "sweep"
    """The deletion of old recordings."""
    CERTIFICATES = "certificates"
    """The look for renewed certificates."""
    RECORDS = "records"
    """The delivery of call records."""
    LOST_CALLS = "lost_calls"
    """The look for calls whose dispatcher died, of which another one writes the record."""


class CallProcess:
    """The metrics that dispatchers and workers share.

    `in` is the direction from the caller to the model, `out` the other one.
    """

    def __init__(self, process: str) -> None:
        self.relay_in = _relay_seconds().labels(process, "in")
        self.relay_out = _relay_seconds().labels(process, "out")
        self.audio_dropped_in = _audio_dropped_seconds().labels("in")
        self.audio_dropped_out = _audio_dropped_seconds().labels("out")
        self.event_loop_lag = _event_loop_lag_seconds().labels(process)
        self.grouping_interval = _grouping_interval_seconds().labels(process)
        self.log_lines_dropped = of_process("log_lines_dropped", LINES_DROPPED).labels(process)
        refused = "Spans of traces dropped because the collector did not take them"
        self.spans_dropped = of_process("spans_dropped", refused).labels(process)
        faults = "Faults of our own state machines, each in one call"
        self.illegal_transitions = of_process("illegal_transitions", faults).labels(process)
        failures = _task_failures()
        self.task_failures = {task: failures.labels(process, task.value) for task in LastingTask}

"""Limits of figures: the one place for the colours of dashboards and the conditions of alerts.

An alert fires at the red limit of its panel, if `ALERTING` does not name another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits at which a figure needs a look, and at which an operator must act.

    Attributes:
        yellow: lower limit of a warning, in the figure's own unit.
        red: limit at which to act, in the same unit.
        low_is_bad: whether figures below the limits are bad, instead of those above.
    """

    yellow: float
    red: float
    low_is_bad: bool = False


CALLS_LOAD: Final = Limits(0.8, 0.95)
"""Calls under way, as a share of the workers' capacity."""

CALLS_REJECTED: Final = Limits(1, 5)
"""Rejected callers in 15 minutes."""

CALLS_FAILED: Final = Limits(0.01, 0.06)
"""Share of calls that end by a fault: what the objective permits, and six times as much."""

CALLS_OBJECTIVE: Final = 0.99
"""Share of calls that must not end by a fault of the service, over 30 days."""

ERROR_BUDGET: Final = Limits(0.25, 0.0, low_is_bad=True)
"""Share of the permitted faults of 30 days that is left."""

CALLS_FAILED_IN_A_DAY: Final = Limits(1, 10)
"""Calls that a fault of the service ended. One is worth a look."""

BUDGET_USED_IN_A_DAY: Final = Limits(1 / 30, 0.1)
"""Share of the 30 days' error budget."""

CALLERS_LOST: Final = Limits(0.05, 0.1)
"""Share of calls that AVR Core or the network breaks off."""

CONNECTIONS_REFUSED: Final = Limits(1, 10)
"""Refused connections in 10 minutes, of one reason."""

GREETING_SECONDS: Final = Limits(2.0, 4.0)
"""p95. After two seconds callers wonder whether anyone is there; after four they hang up."""

TURN_SECONDS: Final = Limits(2.0, 3.5)
"""p95. People leave 0.2 s between turns; the model needs about 0.8. After two seconds callers say it again."""

CONNECT_SECONDS: Final = Limits(1.0, 3.0)
"""p95."""

RECOVERY_SECONDS: Final = Limits(1.5, 3.0)
"""p95. Audio already on its way is heard in the first second."""

RELAY_SECONDS: Final = Limits(0.01, 0.05)
"""p99. A frame is 20 ms long."""

EVENT_LOOP_SECONDS: Final = Limits(0.05, 0.25)
"""p99."""

AUDIO_DROPPED: Final = Limits(0.001, 0.01)
"""Seconds of dropped audio in a second of a call."""

UPSTREAM_ERRORS: Final = Limits(0.05, 0.2)
"""Errors in a minute of a call."""

UPSTREAM_DROPS: Final = Limits(0.5, 2.0)
"""Realtime connections that break in an hour of a call."""

TOOL_SECONDS: Final = Limits(4.0, 10.0)
"""p95 of the silence that the caller hears."""

TOOL_FAILED: Final = Limits(0.1, 0.25)
"""Share of the calls of a tool."""

RECORDS_OLDEST_SECONDS: Final = Limits(120, 900)
"""Longest wait of a call record for delivery. A restarted receiver takes seconds."""

RECORDS_LOST: Final = Limits(0.01, 1)
"""Call records in 15 minutes that are dropped or dead."""

TASK_FAILURES: Final = Limits(0.1, 0.2)
"""Failures of one task in a minute. The rarest task runs once a minute, so 0.2 is every fifth run."""

ILLEGAL_TRANSITIONS: Final = Limits(0.01, 0.05)
"""In a minute. Each is a fault of this service, and costs a session; 0.05 is three in an hour."""

RECORDING_STOPPED: Final = Limits(1, 2)
"""Dispatchers whose disk takes no recordings."""

WORKER_RESTARTS: Final = Limits(1, 3)
"""Restarts in half an hour."""

DISPATCHER_RESTARTS: Final = Limits(1, 2)
"""Restarts in half an hour. Each cuts the dispatcher's calls, so fewer than of workers are bad."""

REDIS_RESTARTS: Final = Limits(1, 2)
"""Restarts of the Redis of `serve` in half an hour."""

FILES_USED: Final = Limits(0.6, 0.8)
"""Open files, as a share of the limit of a process."""

CALLER_AUDIO_GAPS: Final = Limits(0.005, 0.02)
"""Seconds without a frame of the caller, in a second of a call."""

CALLER_AUDIO_JITTER_SECONDS: Final = Limits(0.03, 0.1)
"""p50 to p99. A frame is 20 ms long."""

CALLER_AUDIO_LEVEL_DBFS: Final = Limits(-40, -50, low_is_bad=True)
"""Telephone speech is at -15 to -30 dBFS."""

RATE_LIMIT_REMAINING: Final = Limits(0.25, 0.1, low_is_bad=True)
"""Remaining part of the Realtime API's limit."""

FALLBACKS_FAILED: Final = Limits(0.5, 1)
"""Calls in 15 minutes that should have gone to people, and ended instead."""

CACHED_INPUT: Final = Limits(0.3, 0.1, low_is_bad=True)
"""Share of the input tokens. Each turn repeats the conversation, so most of it should be cached."""

COST_USD_PER_CALL_MINUTE: Final = Limits(0.3, 0.6)

UNPRICED: Final = Limits(1e-9, 0.05)
"""Share of the tokens."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """A number in the condition of an alert, which the chart's values can replace.

    Attributes:
        default: the number without such a value.
        meaning: its unit, for people.
        least: least value that makes sense; the value itself is allowed if it is above 0.
        most: greatest value that makes sense.
    """

    default: float
    meaning: str
    least: float = 0.0
    most: float | None = None


ALERTING: Final[dict[str, Threshold]] = {
    # A factor of 14.4 is the fastest burn, and 14.4 times a budget of more than 5% could hardly be reached.
    "callsObjective": Threshold(
        CALLS_OBJECTIVE, "share of calls that the service may not let down, over 30 days", 0.95, 0.9999
    ),
    "callsLoad": Threshold(CALLS_LOAD.yellow, "calls under way, as a share of the workers' capacity", most=1),
    "callsRejected": Threshold(CALLS_REJECTED.yellow, "calls without a worker in 5 minutes"),
    "callersLost": Threshold(CALLERS_LOST.red, "share of calls that AVR Core or the network breaks off", most=1),
    "connectionsRefused": Threshold(CONNECTIONS_REFUSED.red, "refused connections in 10 minutes"),
    "greetingSeconds": Threshold(GREETING_SECONDS.red, "95% of the callers are greeted in this time"),
    "turnSeconds": Threshold(TURN_SECONDS.red, "95% of the turns are answered in this time"),
    "recoverySeconds": Threshold(RECOVERY_SECONDS.red, "95% of the broken calls continue in this time"),
    "connectSeconds": Threshold(CONNECT_SECONDS.red, "95% of the connections to the API open in this time"),
    "upstreamErrors": Threshold(UPSTREAM_ERRORS.red, "errors of the API in a minute of a call"),
    "upstreamDrops": Threshold(UPSTREAM_DROPS.red, "broken connections to the API in an hour of a call"),
    "rateLimitRemaining": Threshold(RATE_LIMIT_REMAINING.red, "remaining part of the API's limit", most=1),
    "eventLoopSeconds": Threshold(EVENT_LOOP_SECONDS.red, "99% of the event loop's steps are less late"),
    "audioDropped": Threshold(AUDIO_DROPPED.red, "share of the audio that is dropped", most=1),
    "callerAudioGaps": Threshold(CALLER_AUDIO_GAPS.red, "share of the callers' time without audio", most=1),
    "workerRestarts": Threshold(WORKER_RESTARTS.red, "restarts of workers in 30 minutes"),
    "dispatcherRestarts": Threshold(DISPATCHER_RESTARTS.red, "restarts of dispatchers in 30 minutes"),
    "redisRestarts": Threshold(REDIS_RESTARTS.red, "restarts of the Redis of serve in 30 minutes"),
    "filesUsed": Threshold(FILES_USED.red, "open files, as a share of a process's limit", most=1),
    "taskFailures": Threshold(TASK_FAILURES.red, "failures of one background task in a minute"),
    "illegalTransitions": Threshold(ILLEGAL_TRANSITIONS.red, "faults of state machines in a minute"),
    "fallbacksFailed": Threshold(FALLBACKS_FAILED.red, "failed transfers of the way out in 15 minutes"),
    "recordsOldestSeconds": Threshold(RECORDS_OLDEST_SECONDS.red, "longest wait of a call record"),
    "recordsLost": Threshold(RECORDS_LOST.red, "call records in 15 minutes that are dropped or dead"),
    "recordingStopped": Threshold(RECORDING_STOPPED.yellow, "dispatchers whose disk takes no recordings"),
    "toolFailed": Threshold(TOOL_FAILED.red, "share of the calls of one tool", most=1),
    "costUsdPerCallMinute": Threshold(COST_USD_PER_CALL_MINUTE.red, "US dollars for a minute of a call"),
}
"""Thresholds of alerts, by their names in the chart's values (`monitoring.prometheusRule.thresholds`)."""

"""Alerts on processes: lost, restarted, late, of two versions, or without Redis."""

from __future__ import annotations

from typing import Final

from grafana.rule import BY, Alert, When, limit, over, recorded

ALERTS: Final = (
    Alert(
        "AvrStsWorkerLost",
        "warning",
        "0m",
        ((When(over("10m").increase("repins_total", match=('reason="worker_lost"',)), "> 0"),),),
        '{{ $value | printf "%.0f" }} calls lost their worker in 10 minutes',
        "Callers heard a pause, and their calls went on at another worker.",
        "Find out why the worker died, hung or was cut off: memory, node, network, or a stalled event loop.",
    ),
    Alert(
        "AvrStsWorkersRestart",
        "warning",
        "0m",
        ((When(over("30m").worker_restarts(), f">= {limit('workerRestarts')}"),),),
        'Workers were restarted {{ $value | printf "%.0f" }} times in 30 minutes',
        "Callers hear pauses, and are turned away if too few workers are left.",
        "Look at the last log lines before each restart, and at the exit status.",
    ),
    Alert(
        "AvrStsDispatchersRestart",
        "warning",
        "0m",
        ((When(over("30m").dispatcher_restarts(), f">= {limit('dispatcherRestarts')}"),),),
        'Dispatchers were restarted {{ $value | printf "%.0f" }} times in 30 minutes',
        "Callers of a dispatcher that dies are cut off, unless AVR Core connects again within"
        " CALL_RECONNECT_SECONDS.",
        "Look at the last log lines before each restart, and at the exit status.",
    ),
    Alert(
        "AvrStsRedisRestarts",
        "warning",
        "0m",
        ((When(over("30m").increase("redis_restarts_total"), f">= {limit('redisRestarts')}"),),),
        'The Redis of `serve` was restarted {{ $value | printf "%.0f" }} times in 30 minutes',
        "Callers notice nothing, unless a worker dies at the same moment.",
        "Look at the log line `process ended` of the Redis process: mostly memory.",
    ),
    Alert(
        "AvrStsRedisDown",
        "critical",
        "1m",
        ((When(over("5m").redis(), "< 1"),),),
        "Dispatchers do not reach Redis",
        "Callers notice nothing at first. New workers are not found, and a call whose dispatcher dies is lost.",
        "Look whether Redis runs, at REDIS_URL, and at the network between.",
    ),
    Alert(
        "AvrStsWorkerRedisDown",
        "warning",
        "1m",
        ((When(over("5m").worker_redis(), "> 0"),),),
        '{{ $value | printf "%.0f" }} workers do not reach Redis',
        "Callers notice nothing yet. These workers get no new calls, so that the others fill up.",
        "Look at REDIS_URL of the workers, and at the network between workers and Redis.",
    ),
    Alert(
        "AvrStsEventLoopLate",
        "warning",
        "5m",
        (
            (
                When(
                    recorded("namespace_process:avr_sts_event_loop_lag_seconds:p99_5m"),
                    f">= {limit('eventLoopSeconds')}",
                ),
            ),
        ),
        "Event loops of {{ $labels.process }}s run {{ $value | humanizeDuration }} late (p99)",
        "Callers hear audio that is late by as much, and gaps.",
        "Look at CPU limits and load: add processes or cores. With few calls, look for a tool that computes.",
        on=(*BY, "process"),
    ),
    Alert(
        "AvrStsFilesNearLimit",
        "warning",
        "5m",
        ((When(over("5m").files_used(), f">= {limit('filesUsed')}"),),),
        "A {{ $labels.process }} has {{ $value | humanizePercentage }} of its files open",
        "Callers notice nothing yet. When no file is left, new calls are refused.",
        "Raise the hard limit of open files (`ulimit -Hn`), or add processes.",
        on=(*BY, "process"),
    ),
    Alert(
        "AvrStsReleasesDiffer",
        "warning",
        "3h",
        ((When(over("5m").releases(), "> 1"),),),
        '{{ $value | printf "%.0f" }} releases have run side by side for 3 hours',
        "Callers get the behaviour of one release or the other. A rollout has stopped half-way.",
        "Finish the rollout, or take it back.",
    ),
    Alert(
        "AvrStsTaskFails",
        "warning",
        "15m",
        ((When(over("30m").task_failures(), f">= {limit('taskFailures')}"),),),
        "Task {{ $labels.task }} of a {{ $labels.process }} fails, for half an hour",
        "Callers notice nothing at first. The task's work is not done, such as leases, records or recordings.",
        "Look at the log line `task step failed`, which has the cause.",
        on=(*BY, "process", "task"),
    ),
    Alert(
        "AvrStsIllegalTransitions",
        "warning",
        "0m",
        ((When(over("1h").illegal_transitions(), f">= {limit('illegalTransitions')}"),),),
        "Calls meet a fault of this service's state machines",
        "Callers hear a pause, and their call goes on in another session, at most twice.",
        "Report the log line `illegal transition`. If it began with a rollout, go back to the release before.",
    ),
)

"""Dashboard *Fleet*: spare capacity, and the health of the processes."""

from __future__ import annotations

from typing import Final

from grafana import thresholds
from grafana.dashboard import NOW, Dashboard, Row
from grafana.formulas import FIRING_ALERTS, Formulas
from grafana.panels import Query, heat, lines, number

_15M: Final = Formulas(NOW.matchers, "15m")
_30M: Final = Formulas(NOW.matchers, "30m")
_BY_TARGET: Final = Formulas(NOW.matchers, NOW.window, ("namespace", "pod", "instance"))
_TARGET: Final = "{{pod}} {{instance}}"
"""In a cluster, each pod is a process. `serve` reports all its processes together."""

REDIS: Final = thresholds.Limits(1, 0.5, low_is_bad=True)

FLEET: Final = Dashboard(
    "fleet",
    "Fleet",
    "Whether there is room for the next call, and whether everything that runs is well.",
    (
        Row(
            "Now",
            (
                number("Calls now", "Calls under way.", "short", NOW.total("calls_active")),
                number(
                    "Load now",
                    "Calls under way, as a part of those that all workers take together. At 100% new calls are"
                    " refused.",
                    "percentunit",
                    NOW.load(),
                    limits=thresholds.CALLS_LOAD,
                ),
                number(
                    "Turned away in 15 minutes",
                    "Calls of the last 15 minutes that found no worker with room (close code 1013).",
                    "short",
                    f"round({_15M.rejected()})",
                    limits=thresholds.CALLS_REJECTED,
                ),
                number(
                    "Workers",
                    "Worker processes whose event loop runs.",
                    "short",
                    NOW.processes("worker"),
                    limits=thresholds.Limits(1, 1, low_is_bad=True),
                ),
                number(
                    "Redis now",
                    "Whether every dispatcher reaches Redis. Without it calls go on, and new ones are placed from"
                    " what was last known.",
                    "none",
                    NOW.redis(),
                    limits=REDIS,
                    words={"0": "away", "1": "up"},
                ),
                number(
                    "Firing alerts",
                    "Alerts of this service that fire; 0 also where its rules are not loaded.",
                    "short",
                    FIRING_ALERTS,
                    limits=thresholds.Limits(1, 3),
                ),
            ),
        ),
        Row(
            "Calls",
            (
                lines(
                    "Calls against capacity",
                    "Calls under way, and how many all workers take together.",
                    "short",
                    Query(NOW.total("calls_active"), "calls"),
                    Query(NOW.total("calls_capacity"), "capacity"),
                ),
                lines(
                    "Load",
                    "Calls under way, as a part of capacity. Autoscaling goes by it.",
                    "percentunit",
                    Query(NOW.load(), "load"),
                    limits=thresholds.CALLS_LOAD,
                ),
                lines(
                    "Rejected calls",
                    "Callers turned away within 15 minutes, as no worker had room.",
                    "short",
                    Query(_15M.rejected(), "rejected"),
                    limits=thresholds.CALLS_REJECTED,
                ),
            ),
        ),
        Row(
            "Pins",
            (
                lines(
                    "Calls pinned to each worker",
                    "Calls that each worker holds. New ones go to the least loaded.",
                    "short",
                    Query(_BY_TARGET.total("calls_active"), _TARGET),
                    stacked=True,
                    span=12,
                ),
                lines(
                    "Load of each worker",
                    "Calls that each worker holds, as a part of those that it takes.",
                    "percentunit",
                    Query(_BY_TARGET.load(), _TARGET),
                    limits=thresholds.CALLS_LOAD,
                    span=12,
                ),
                lines(
                    "Sessions that ended",
                    "Sessions of workers, in a minute. A call that moves has one at each worker. failed: the"
                    " session ended by a fault, and the call went on in another one or took the way out.",
                    "cpm",
                    Query(f"60 * {NOW.rate('session_duration_seconds_count', 'outcome')}", "{{outcome}}"),
                    stacked=True,
                    span=12,
                ),
                lines(
                    "Calls given to another worker",
                    "In a minute: worker_lost, as theirs died or hung; drain, as theirs was told to end.",
                    "cpm",
                    Query(f"60 * {NOW.rate('repins_total', 'reason')}", "{{reason}}"),
                    stacked=True,
                    span=12,
                ),
            ),
        ),
        Row(
            "Processes",
            (
                lines(
                    "Processes",
                    "Dispatchers and workers whose event loop runs.",
                    "short",
                    Query(NOW.processes("dispatcher"), "dispatchers"),
                    Query(NOW.processes("worker"), "workers"),
                ),
                lines(
                    "Releases",
                    "Processes of each release. During a rollout there are two.",
                    "short",
                    Query(NOW.total("build_info", "version", "process"), "{{version}} {{process}}"),
                    stacked=True,
                ),
                lines(
                    "Worker restarts",
                    "In half an hour: by serve, or by the cluster (a container that counts from 0 again).",
                    "short",
                    Query(_30M.worker_restarts(), "restarts"),
                    limits=thresholds.WORKER_RESTARTS,
                ),
                lines(
                    "Dispatcher restarts",
                    "In half an hour. Each cuts the calls of its connections, which come back within seconds.",
                    "short",
                    Query(_30M.dispatcher_restarts(), "restarts"),
                    limits=thresholds.DISPATCHER_RESTARTS,
                ),
                lines(
                    "Memory",
                    "Resident memory of all processes, by kind.",
                    "bytes",
                    Query(NOW.processes_total("process_resident_memory_bytes", "process"), "{{process}}"),
                    stacked=True,
                ),
                lines(
                    "CPU",
                    "Cores that all processes use, by kind. A process cannot use more than one.",
                    "short",
                    Query(NOW.cpu("process"), "{{process}}"),
                    stacked=True,
                ),
                lines(
                    "Open files",
                    "Of the fullest process, as a share of its limit. At 100% it takes no more calls.",
                    "percentunit",
                    Query(NOW.files_used(), "{{process}}"),
                    limits=thresholds.FILES_USED,
                ),
                lines(
                    "Event loops: how late",
                    "How much later than due event loops run. Audio is late by as much. Only too little CPU makes"
                    " it so.",
                    "s",
                    Query(NOW.quantile(0.99, "event_loop_lag_seconds", "process"), "{{process}} p99"),
                    Query(NOW.quantile(0.5, "event_loop_lag_seconds", "process"), "{{process}} p50"),
                    limits=thresholds.EVENT_LOOP_SECONDS,
                ),
                lines(
                    "Event loops: intervals",
                    "The longest interval at which sockets are read, because a process is busy. Audio waits for"
                    " half of it on average; 0: it does not wait.",
                    "s",
                    Query(NOW.grouping_interval(), "{{process}}"),
                ),
            ),
        ),
        Row(
            "Audio inside a process",
            (
                lines(
                    "Frames: time inside a process",
                    "From a frame read to the frame written, p99. in: from the caller to the model; out: back.",
                    "s",
                    Query(
                        NOW.quantile(0.99, "relay_seconds", "process", "direction"),
                        "{{process}} {{direction}} p99",
                    ),
                    limits=thresholds.RELAY_SECONDS,
                ),
                heat(
                    "Frames, as a histogram",
                    "All processes and directions together.",
                    "s",
                    NOW.buckets("relay_seconds"),
                ),
                lines(
                    "Dropped audio",
                    "Share of the audio dropped at a bound. in: from callers; out: to callers.",
                    "percentunit",
                    Query(NOW.audio_dropped(), "{{direction}}"),
                    limits=thresholds.AUDIO_DROPPED,
                ),
            ),
        ),
        Row(
            "Redis",
            (
                lines(
                    "Redis",
                    "Whether every dispatcher, and every worker, reaches Redis: 1, or 0.",
                    "none",
                    Query(NOW.redis(), "dispatchers"),
                    Query(NOW.grouped("min", NOW.series("worker_redis_up")), "workers"),
                    limits=REDIS,
                ),
                lines(
                    "Restarts of Redis",
                    "In half an hour, of the Redis that serve runs itself.",
                    "short",
                    Query(_30M.redis_restarts(), "restarts"),
                    limits=thresholds.REDIS_RESTARTS,
                ),
                lines(
                    "Failures of lasting tasks",
                    "In a minute, by process and task. They go on; the log line 'task step failed' has the cause.",
                    "cpm",
                    Query(f"60 * {NOW.rate('task_failures_total', 'process', 'task')}", "{{process}} {{task}}"),
                    limits=thresholds.TASK_FAILURES,
                ),
            ),
        ),
        Row(
            "At the door",
            (
                lines(
                    "Invalid messages of AVR Core",
                    "Messages in a minute that the AVR protocol does not allow, by reason.",
                    "cpm",
                    Query(f"60 * {NOW.rate('bad_input_total', 'reason')}", "{{reason}}"),
                    stacked=True,
                ),
                lines(
                    "Connections refused at the door",
                    "In a minute, before any call began, by why: no token, too many at once, too slow, not HTTP.",
                    "cpm",
                    Query(f"60 * {NOW.rate('connections_refused_total', 'reason')}", "{{reason}}"),
                    stacked=True,
                ),
                lines(
                    "Illegal transitions",
                    "In a minute, by process: faults of this service, each of which costs one call its session. "
                    "The log line 'illegal transition' names state and event.",
                    "cpm",
                    Query(f"60 * {NOW.rate('illegal_transitions_total', 'process')}", "{{process}}"),
                    limits=thresholds.ILLEGAL_TRANSITIONS,
                ),
            ),
        ),
        Row(
            "Call records and recordings",
            (
                lines(
                    "Call records",
                    "In a minute, by outcome. dropped: lost at a bound; dead: no sink took it for a day.",
                    "cpm",
                    Query(f"60 * {NOW.rate('call_records_total', 'outcome')}", "{{outcome}}"),
                    stacked=True,
                ),
                lines(
                    "Call records that wait",
                    "Records of ended calls that the dispatchers hold until all sinks have them.",
                    "short",
                    Query(NOW.total("call_records_waiting"), "waiting"),
                ),
                lines(
                    "Call records: longest wait",
                    "Time since delivery of the oldest waiting record was first tried.",
                    "s",
                    Query(NOW.records_oldest(), "oldest"),
                    limits=thresholds.RECORDS_OLDEST_SECONDS,
                ),
                lines(
                    "Call records lost",
                    "Within 15 minutes: dropped at a bound, or dead.",
                    "short",
                    Query(_15M.records_lost(), "lost"),
                    limits=thresholds.RECORDS_LOST,
                ),
                lines(
                    "Recordings",
                    "Calls that are recorded: seconds of recordings in a second. missing: sound not recorded,"
                    " by reason.",
                    "short",
                    Query(NOW.rate("recording_seconds_total"), "recorded"),
                    Query(NOW.rate("recording_dropped_seconds_total", "reason"), "missing: {{reason}}"),
                ),
                lines(
                    "Dispatchers whose disk takes no recordings",
                    "The folder is full, read-only, or less than 5% of its disk is free. Calls go on.",
                    "short",
                    Query(NOW.total("recording_stopped"), "stopped"),
                    limits=thresholds.RECORDING_STOPPED,
                ),
            ),
        ),
        Row(
            "Logs and traces",
            (
                lines(
                    "Log lines dropped",
                    "In a minute, by process: whatever reads stderr is too slow, or has stalled. Calls go on.",
                    "cpm",
                    Query(f"60 * {NOW.rate('log_lines_dropped_total', 'process')}", "{{process}}"),
                ),
                lines(
                    "Spans dropped",
                    "In a minute, by process: the collector of traces is too slow, or gone. Calls go on.",
                    "cpm",
                    Query(f"60 * {NOW.rate('spans_dropped_total', 'process')}", "{{process}}"),
                ),
            ),
        ),
    ),
)

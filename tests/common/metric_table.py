"""Every metric: what dashboards, alerts and autoscalers are written against."""

from __future__ import annotations

PROCESS = "process"
"""Stands for the roles of a metric that each process has: `ProcessMetrics` creates it."""

# Its name without prefix and _total; type, labels, and the roles that have it.
METRICS = {
    "calls_active": ("gauge", (), "worker"),
    "calls_capacity": ("gauge", (), "worker"),
    "calls": ("counter", ("outcome", "reason", "tenant"), "dispatcher"),
    "call_duration_seconds": ("histogram", ("tenant",), "dispatcher"),
    "session_duration_seconds": ("histogram", ("outcome",), "worker"),
    "turn_latency_seconds": ("histogram", (), "worker"),
    "turn_part_seconds": ("histogram", ("part",), "worker"),
    "greeting_latency_seconds": ("histogram", (), "dispatcher"),
    "upstream_connect_seconds": ("histogram", (), "worker"),
    "relay_seconds": ("histogram", ("process", "direction"), "dispatcher worker"),
    "tokens": ("counter", ("model", "direction", "modality", "cached"), "worker"),
    "cost_usd": ("counter", ("model", "tenant"), "worker"),
    "interruptions": ("counter", (), "dispatcher"),
    "dtmf_digits": ("counter", (), "dispatcher"),
    "caller_audio_gaps": ("counter", (), "dispatcher"),
    "caller_audio_gap_seconds": ("counter", (), "dispatcher"),
    "caller_audio_jitter_seconds": ("histogram", (), "dispatcher"),
    "caller_audio_level_dbfs": ("histogram", (), "dispatcher"),
    "bad_input": ("counter", ("reason",), "dispatcher"),
    "tool_calls": ("counter", ("tool", "outcome"), "worker"),
    "tool_duration_seconds": ("histogram", ("tool", "outcome"), "worker"),
    "upstream_errors": ("counter", ("code", "key"), "worker"),
    "upstream_sessions_waiting": ("gauge", (), "worker"),
    "upstream_refused": ("gauge", (), "worker"),
    "answers_retried": ("counter", ("reason",), "worker"),
    "answers_given_up": ("counter", ("reason",), "worker"),
    "answer_wait_seconds": ("histogram", (), "worker"),
    "upstream_rate_limit_remaining": ("gauge", ("limit",), "worker"),
    "upstream_reconnects": ("counter", ("reason",), "worker"),
    "repins": ("counter", ("reason",), "dispatcher"),
    "recovery_seconds": ("histogram", ("reason",), "dispatcher"),
    "worker_redis_up": ("gauge", (), "worker"),
    "worker_restarts": ("counter", (), "supervisor"),
    "dispatcher_restarts": ("counter", (), "supervisor"),
    "redis_restarts": ("counter", (), "supervisor"),
    "build_info": ("gauge", ("process", "version", "python", "compiled"), PROCESS),
    "audio_dropped_seconds": ("counter", ("direction",), "dispatcher worker"),
    "fallbacks": ("counter", ("outcome",), "dispatcher"),
    "connections_refused": ("counter", ("reason",), "dispatcher"),
    "call_records": ("counter", ("outcome",), "dispatcher"),
    "call_records_waiting": ("gauge", (), "dispatcher"),
    "call_records_oldest_seconds": ("gauge", (), "dispatcher"),
    "recording_seconds": ("counter", (), "dispatcher"),
    "recording_dropped_seconds": ("counter", ("reason",), "dispatcher"),
    "recording_stopped": ("gauge", (), "dispatcher"),
    "redis_up": ("gauge", (), "dispatcher"),
    "task_failures": ("counter", ("process", "task"), "dispatcher worker"),
    "illegal_transitions": ("counter", ("process",), "dispatcher worker"),
    "log_lines_dropped": ("counter", ("process",), "dispatcher worker supervisor"),
    "spans_dropped": ("counter", ("process",), "dispatcher worker"),
    "grouping_interval_seconds": ("gauge", ("process",), "dispatcher worker"),
    "event_loop_lag_seconds": ("histogram", ("process",), "dispatcher worker"),
}

PROCESS_METRICS = {
    "process_resident_memory_bytes": "gauge",
    "process_open_fds": "gauge",
    "process_max_fds": "gauge",
    "process_start_time_seconds": "gauge",
    "process_cpu_seconds": "counter",
}
"""Metrics of each process with the library's names, without our prefix; with the labels `process` and `slot`."""

"""Cases of the recording rules."""

from __future__ import annotations

from typing import Final

from tests.grafana.cases.case import ALIVE, BAD, GOOD, LOADED, TEN_CALLS, RecordingCase, of, slow

OUTCOMES: Final = {GOOD: "0+6x900", BAD: "0+2x900"}

RECORDING_CASES: Final = (
    RecordingCase("namespace:avr_sts_calls_active:sum", LOADED, 340),
    RecordingCase("namespace:avr_sts_calls_capacity:sum", LOADED, 400),
    RecordingCase("namespace:avr_sts_calls_load:ratio", LOADED, 0.85),
    RecordingCase(
        "namespace_outcome:avr_sts_calls:rate5m",
        {of("calls_total", outcome="completed"): "0+6x60"},
        0.2,
        'namespace="voice", outcome="completed"',
    ),
    RecordingCase("namespace:avr_sts_dispatchers:count", ALIVE, 1),
    RecordingCase("namespace:avr_sts_workers:count", ALIVE, 1),
    RecordingCase("namespace:avr_sts_workers:count", {of("redis_up"): "1x60"}, 0),
    RecordingCase("namespace:avr_sts_calls:rate5m", OUTCOMES, 8 / 30),
    RecordingCase("namespace:avr_sts_calls_failed:rate5m", OUTCOMES, 2 / 30),
    RecordingCase("namespace:avr_sts_calls_failed:rate5m", {GOOD: "0+6x60"}, 0),
    *(
        RecordingCase(f"namespace:avr_sts_calls_failed:ratio_rate{window}", OUTCOMES, 0.25, at=at, every=every)
        for window, at, every in (
            ("5m", "20m", "30s"),
            ("30m", "1h", "30s"),
            ("1h", "2h", "2m"),
            ("2h", "3h", "2m"),
            ("6h", "7h", "5m"),
            ("3d", "4h", "5m"),
            ("30d", "4h", "5m"),
        )
    ),
    # Half of the permitted faults are used up.
    RecordingCase(
        "namespace:avr_sts_calls_error_budget:ratio",
        {GOOD: "0+1990x900", BAD: "0+10x900"},
        0.5000000000000004,
        at="4h",
        every="5m",
    ),
    RecordingCase(
        "namespace:avr_sts_greeting_latency_seconds:p95_10m", slow("greeting_latency_seconds", "4", "6"), 5.9
    ),
    RecordingCase("namespace:avr_sts_turn_latency_seconds:p50_10m", slow("turn_latency_seconds", "3", "4"), 3.5),
    RecordingCase("namespace:avr_sts_turn_latency_seconds:p95_10m", slow("turn_latency_seconds", "3", "4"), 3.95),
    RecordingCase(
        "namespace:avr_sts_upstream_connect_seconds:p95_10m", slow("upstream_connect_seconds", "3", "5"), 4.9
    ),
    RecordingCase(
        "namespace:avr_sts_recovery_seconds:p95_15m",
        slow("recovery_seconds", "3", "5", reason="worker_lost"),
        4.9,
    ),
    RecordingCase(
        "namespace_process:avr_sts_event_loop_lag_seconds:p99_5m",
        slow("event_loop_lag_seconds", "0.25", "0.5", process="worker"),
        0.4975,
        'namespace="voice", process="worker"',
    ),
    RecordingCase(
        "namespace:avr_sts_cost_usd:per_hour_rate1h",
        {of("cost_usd_total", model="m"): "0+0.25x200"},
        30,
        at="61m",
    ),
    RecordingCase(
        "namespace:avr_sts_cost_usd:per_call_minute_rate1h",
        {of("cost_usd_total", model="m"): "0+2.5x200", **TEN_CALLS},
        0.5,
        at="61m",
    ),
    RecordingCase(
        "namespace:avr_sts_input_tokens_cached:ratio_rate1h",
        {
            of("tokens_total", direction="input", cached="true"): "0+30x60",
            of("tokens_total", direction="input", cached="false"): "0+10x60",
            of("tokens_total", direction="output", cached="false"): "0+90x60",
        },
        0.75,
    ),
)

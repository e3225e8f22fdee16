"""Recording rules: figures for people, autoscalers, long ranges and alerts."""

from __future__ import annotations

from typing import Final

from grafana.rule import Recording, limit, over, recorded

CALLS: Final = "namespace:avr_sts_calls:rate5m"
FAILED: Final = "namespace:avr_sts_calls_failed:rate5m"
DISPATCHERS: Final = "namespace:avr_sts_dispatchers:count"
WORKERS: Final = "namespace:avr_sts_workers:count"

FAILED_WINDOWS: Final = ("30m", "1h", "2h", "6h", "3d", "30d")
"""Windows beyond 5 minutes over which the share of failed calls is recorded."""


def failed_share(window: str) -> str:
    """Return the name of the recorded share of calls that ended by a fault of the service."""
    return f"namespace:avr_sts_calls_failed:ratio_rate{window}"


def _failed_share(window: str) -> Recording:
    """Average the recorded rates. Over days, that costs a thousandth of reading every process's counters."""
    failed, calls = (f"avg_over_time({recorded(name)}[{window}])" for name in (FAILED, CALLS))
    return Recording(failed_share(window), f"{failed} / ({calls} > 0)")


RECORDINGS: Final = (
    Recording("namespace:avr_sts_calls_active:sum", over("5m").total("calls_active")),
    Recording("namespace:avr_sts_calls_capacity:sum", over("5m").total("calls_capacity")),
    # These ratios are for people and alerts. Autoscalers take the raw figures; a missing figure has no ratio.
    Recording("namespace:avr_sts_calls_load:ratio", over("5m").load()),
    Recording(DISPATCHERS, over("5m").dispatchers()),
    Recording(WORKERS, over("5m").workers()),
    Recording("namespace_outcome:avr_sts_calls:rate5m", over("5m").rate("calls_total", "outcome")),
    Recording(CALLS, over("5m").rate("calls_total")),
    Recording(FAILED, over("5m").failed_by_us_rate()),
    Recording(failed_share("5m"), f"{recorded(FAILED)} / ({recorded(CALLS)} > 0)"),
    Recording("namespace:avr_sts_greeting_latency_seconds:p95_10m", over("10m").p95("greeting_latency_seconds")),
    Recording("namespace:avr_sts_turn_latency_seconds:p50_10m", over("10m").quantile(0.5, "turn_latency_seconds")),
    Recording("namespace:avr_sts_turn_latency_seconds:p95_10m", over("10m").p95("turn_latency_seconds")),
    Recording("namespace:avr_sts_upstream_connect_seconds:p95_10m", over("10m").p95("upstream_connect_seconds")),
    Recording("namespace:avr_sts_recovery_seconds:p95_15m", over("15m").recovery()),
    Recording(
        "namespace_process:avr_sts_event_loop_lag_seconds:p99_5m",
        over("5m").quantile(0.99, "event_loop_lag_seconds", "process"),
    ),
    Recording("namespace:avr_sts_cost_usd:per_hour_rate1h", over("1h").cost_per_hour()),
    Recording("namespace:avr_sts_cost_usd:per_call_minute_rate1h", over("1h").cost_per_call_minute()),
    Recording("namespace:avr_sts_input_tokens_cached:ratio_rate1h", over("1h").cached_input()),
)

OBJECTIVE: Final = (
    *map(_failed_share, FAILED_WINDOWS),
    Recording(
        "namespace:avr_sts_calls_error_budget:ratio",
        f"1 - {recorded(failed_share('30d'))} / (1 - {limit('callsObjective')})",
    ),
)
"""Figures of the service level objective: the share of failed calls, and the part of the budget that is left."""

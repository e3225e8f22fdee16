"""Dashboard *Overview*: how callers fare, why calls fail, and whose calls they are. An operator begins here."""

from __future__ import annotations

from typing import Final

from grafana import thresholds
from grafana.dashboard import NOW, SHOWN, Dashboard, Row
from grafana.formulas import FIRING_ALERTS, Formulas
from grafana.panels import Column, Query, lines, listing, number

_15M: Final = Formulas(NOW.matchers, "15m")
_1H: Final = Formulas(NOW.matchers, "1h")
_6H: Final = Formulas(NOW.matchers, "6h")
_24H: Final = Formulas(NOW.matchers, "24h")
_30D: Final = Formulas(NOW.matchers, "30d")

OVERVIEW: Final = Dashboard(
    "overview",
    "Overview",
    "How callers fare, why calls fail, and whose calls they are. Begin here.",
    (
        Row(
            "Now",
            (
                number("Calls", "Calls under way.", "short", NOW.total("calls_active")),
                number(
                    "Failed today",
                    "Calls of the last 24 hours that ended by a fault of the service.",
                    "short",
                    f"round({_24H.failed_by_us()})",
                    limits=thresholds.CALLS_FAILED_IN_A_DAY,
                ),
                number(
                    "Turned away",
                    "Calls of the last 15 minutes that found no worker with room (close code 1013).",
                    "short",
                    f"round({_15M.rejected()})",
                    limits=thresholds.CALLS_REJECTED,
                ),
                number(
                    "Error budget left",
                    "Share of the faults that the objective permits in 30 days:"
                    " {thresholds.CALLS_OBJECTIVE:.1%} of"
                    " the calls must not end by a fault of the service. Below 0 it is overdrawn.",
                    "percentunit",
                    _30D.budget_left(thresholds.CALLS_OBJECTIVE),
                    limits=thresholds.ERROR_BUDGET,
                ),
                number(
                    "The key",
                    "Whether the Realtime API takes the key of the settings, at the last attempt of each worker.",
                    "none",
                    NOW.upstream_refused(),
                    limits=thresholds.Limits(0.5, 1),
                    words={"0": "accepted", "1": "refused"},
                ),
                number(
                    "Alerts",
                    "Alerts of this service that fire; 0 also where its rules are not loaded.",
                    "short",
                    FIRING_ALERTS,
                    limits=thresholds.Limits(1, 3),
                ),
            ),
        ),
        Row(
            "Service level",
            (
                lines(
                    "Calls that fail",
                    "Share of the calls that end by a fault of the service. The dashed lines: what the objective"
                    " permits, and six times as much, which uses up a month's budget in five days.",
                    "percentunit",
                    Query(_1H.failed_share(), "over an hour"),
                    Query(_6H.failed_share(), "over 6 hours"),
                    limits=thresholds.CALLS_FAILED,
                ),
                lines(
                    "Budget used",
                    "Share of the 30 days' budget that the faults of the last 24 hours took. 3.3% a day is just"
                    " what the objective permits.",
                    "percentunit",
                    Query(_24H.budget_used(thresholds.CALLS_OBJECTIVE, _30D), "in 24 hours"),
                    limits=thresholds.BUDGET_USED_IN_A_DAY,
                ),
                lines(
                    "Calls by outcome",
                    "Calls that ended in a minute: completed, rejected for want of room, or failed by a fault.",
                    "cpm",
                    Query(f"60 * {NOW.rate('calls_total', 'outcome')}", "{{outcome}}"),
                    stacked=True,
                ),
            ),
        ),
        Row(
            "Why calls end",
            (
                lines(
                    "Failures by reason",
                    "Calls that failed or were turned away, in a minute. The runbook says what each reason means.",
                    "cpm",
                    Query(f"60 * {NOW.failed_rate('reason')}", "{{reason}}"),
                    stacked=True,
                ),
                listing(
                    "Failures and reasons",
                    "Calls that failed or were turned away, over all that is shown. GET /calls?ended&ending=failed"
                    " of the calls API lists them.",
                    "reason",
                    Column("Calls", f"round({SHOWN.failed('reason')})", "short"),
                    heading="Reason",
                    span=8,
                ),
                lines(
                    "All endings",
                    "Ended calls in a minute, by reason: who hung up, transfers, faults.",
                    "cpm",
                    Query(f"60 * {NOW.rate('calls_total', 'reason')}", "{{reason}}"),
                    stacked=True,
                ),
                lines(
                    "Length of calls",
                    "Of calls that ended, from the caller's connection to its end.",
                    "s",
                    Query(NOW.quantile(0.5, "call_duration_seconds"), "p50"),
                    Query(NOW.p95("call_duration_seconds"), "p95"),
                ),
                lines(
                    "Waits of callers",
                    "p95: from the call's begin to the greeting, and from the caller's last word to the reply.",
                    "s",
                    Query(NOW.p95("greeting_latency_seconds"), "greeting"),
                    Query(NOW.p95("turn_latency_seconds"), "answer"),
                    limits=thresholds.TURN_SECONDS,
                ),
                lines(
                    "Calls broken off",
                    "Share of the calls that AVR Core, or the network before it, broke off.",
                    "percentunit",
                    Query(_1H.callers_lost(), "{{reason}}"),
                    limits=thresholds.CALLERS_LOST,
                ),
            ),
        ),
        Row(
            "Tenants",
            (
                listing(
                    "Tenants",
                    "Over all that is shown. Without TENANT_KEY there is one row, without a name. other: calls"
                    " whose"
                    " tenant is not in TENANTS.",
                    "tenant",
                    Column("Calls", f"round({SHOWN.increase('calls_total', 'tenant')})", "short"),
                    Column("Failed", SHOWN.tenants_failed_share(), "percentunit", thresholds.CALLS_FAILED),
                    Column("Time", SHOWN.increase("call_duration_seconds_sum", "tenant"), "s"),
                    Column("Cost", SHOWN.increase("cost_usd_total", "tenant"), "currencyUSD"),
                    heading="Tenant",
                ),
                lines(
                    "Calls by tenant",
                    "Ended calls in a minute.",
                    "cpm",
                    Query(f"60 * {NOW.rate('calls_total', 'tenant')}", "{{tenant}}"),
                    stacked=True,
                    span=12,
                ),
                lines(
                    "Failures by tenant",
                    "Calls of an hour that ended by a fault of the service, or of the tenant's own key.",
                    "short",
                    Query(_1H.tenants_failed(), "{{tenant}}"),
                    limits=thresholds.CALLS_FAILED_IN_A_DAY,
                    span=12,
                ),
            ),
        ),
    ),
    shows="24h",
)

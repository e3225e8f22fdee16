"""Alerts on the Realtime API: refused keys, errors, limits, slow and broken connections."""

from __future__ import annotations

from typing import Final

from grafana.formulas import OF_A_CALL
from grafana.rule import BY, Alert, When, limit, over, recorded

_LAST_ATTEMPT: Final = (
    f'label_replace({over("5m").upstream_refused()} > 0, "code", "last_attempt", "", "")'
    f" unless on ({', '.join(BY)}) ({over('5m').upstream_refusals()} > 0)"
)
"""A worker whose last attempt was refused, and that had none since. Sites with few calls have no recent error."""

_REMAINING: Final = over("5m").grouped("min", over("5m").series("upstream_rate_limit_remaining"), "limit")

ALERTS: Final = (
    Alert(
        "AvrStsUpstreamRefuses",
        "critical",
        "0m",
        (
            (When(over("5m").upstream_refusals(), "> 0"),),
            (When(_LAST_ATTEMPT, "", over("5m").upstream_refused()),),
        ),
        "The Realtime API refuses our own key or account: {{ $labels.code }}",
        "Callers get no conversation until an operator mends it.",
        "Look at the code: the key (OPENAI_API_KEY), the account's quota or billing, or the model (OPENAI_MODEL).",
        on=(*BY, "code"),
    ),
    Alert(
        "AvrStsTenantKeyRefused",
        "warning",
        "0m",
        ((When(over("15m").upstream_refusals(OF_A_CALL), "> 0"),),),
        "The Realtime API refuses a key that calls bring themselves: {{ $labels.code }}",
        "Callers of one tenant get no conversation. Those of others, and those with our own key, notice nothing.",
        "Find the tenant in the log, and tell its owner; our own key and account are not concerned.",
        on=(*BY, "code"),
    ),
    Alert(
        "AvrStsRateLimitNear",
        "warning",
        "5m",
        ((When(over("5m").rate_limit_remaining(), f"< {limit('rateLimitRemaining')}", _REMAINING),),),
        "{{ $value | humanizePercentage }} of OpenAI's limit on {{ $labels.limit }} is left",
        "Callers notice nothing yet. When nothing is left, they wait seconds for each answer.",
        "Ask OpenAI for a higher limit, or spread the calls over projects.",
        on=(*BY, "limit"),
    ),
    Alert(
        "AvrStsUpstreamErrors",
        "warning",
        "5m",
        (
            (
                When(over("10m").upstream_errors(), f">= {limit('upstreamErrors')}"),
                When(over("10m").increase("upstream_errors_total"), "> 4"),
            ),
        ),
        'The Realtime API reports {{ $value | printf "%.1f" }} errors in a minute of a call',
        "Callers wait longer for answers, and hear an apology where one could not be had.",
        "Look which codes: limits, OpenAI's outage, the way there, or a changed setting.",
    ),
    Alert(
        "AvrStsUpstreamSlow",
        "warning",
        "10m",
        (
            (
                When(
                    recorded("namespace:avr_sts_upstream_connect_seconds:p95_10m"),
                    f">= {limit('connectSeconds')}",
                ),
            ),
        ),
        "Connecting to the Realtime API takes {{ $value | humanizeDuration }} (p95)",
        "Callers hear silence before the greeting, and when a session is replaced.",
        "Look at OpenAI's status page, then at DNS, proxies, NAT ports and CPU limits.",
    ),
    Alert(
        "AvrStsUpstreamDrops",
        "warning",
        "5m",
        (
            (
                When(over("10m").upstream_drops(), f">= {limit('upstreamDrops')}"),
                When(over("10m").increase("upstream_reconnects_total", match=('reason="dropped"',)), "> 4"),
            ),
        ),
        'Realtime connections break {{ $value | printf "%.1f" }} times in an hour of a call',
        "Callers hear a pause, and their call goes on in a new session.",
        "Look at OpenAI's status page, then at a proxy or NAT with a time limit, and at nodes that are drained.",
    ),
)

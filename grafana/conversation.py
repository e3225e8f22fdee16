"""Dashboard *Conversation*: the quality that callers notice."""

from __future__ import annotations

from typing import Final

from grafana import thresholds
from grafana.dashboard import NOW, SHOWN, Dashboard, Row
from grafana.panels import Query, heat, lines, number


def _quantiles(histogram: str, *labels: str) -> tuple[Query, ...]:
    legend = "".join(f"{{{{{label}}}}} " for label in labels)
    shares = (0.5, 0.95, 0.99)
    return tuple(
        Query(NOW.quantile(share, histogram, *labels), f"{legend}p{round(share * 100)}") for share in shares
    )


CONVERSATION: Final = Dashboard(
    "conversation",
    "Conversation",
    "What callers notice: how soon they are answered, how tools and the Realtime API behave, what breaks and"
    " mends.",
    (
        Row(
            "Over all that is shown",
            (
                number(
                    "Greeting",
                    "From the call's begin to the agent's first sound, p95.",
                    "s",
                    SHOWN.p95("greeting_latency_seconds"),
                    limits=thresholds.GREETING_SECONDS,
                ),
                number(
                    "Answer",
                    "From the end of the caller's speech to the reply's first sound, p95.",
                    "s",
                    SHOWN.p95("turn_latency_seconds"),
                    limits=thresholds.TURN_SECONDS,
                ),
                number(
                    "Barge-ins",
                    "How often callers interrupted the agent, for each turn of theirs. Many: replies are too"
                    " long, or noise counts as speech.",
                    "percentunit",
                    SHOWN.barge_in(),
                ),
                number(
                    "Failed tools",
                    "Part of all calls of tools that did not end well.",
                    "percentunit",
                    SHOWN.tool_failed(),
                    limits=thresholds.TOOL_FAILED,
                ),
                number(
                    "Upstream errors",
                    "Errors of the Realtime API in a minute of a call. Most do not end a call.",
                    "short",
                    SHOWN.upstream_errors(),
                    limits=thresholds.UPSTREAM_ERRORS,
                ),
                number(
                    "Reconnects",
                    "Realtime sessions that were opened to go on with a call.",
                    "short",
                    SHOWN.increase("upstream_reconnects_total"),
                ),
            ),
        ),
        Row(
            "How soon callers are answered",
            (
                lines(
                    "Greeting",
                    "From the call's begin to the agent's first sound: instructions, connecting, the model.",
                    "s",
                    *_quantiles("greeting_latency_seconds"),
                    limits=thresholds.GREETING_SECONDS,
                    span=12,
                ),
                heat(
                    "Greeting",
                    "How many calls were greeted after how long.",
                    "s",
                    NOW.buckets("greeting_latency_seconds"),
                    span=12,
                ),
                lines(
                    "Answer",
                    "From the end of the caller's speech, as the API sees it, to the reply's first sound.",
                    "s",
                    *_quantiles("turn_latency_seconds"),
                    limits=thresholds.TURN_SECONDS,
                    span=12,
                ),
                heat(
                    "Answer",
                    "How many turns were answered after how long.",
                    "s",
                    NOW.buckets("turn_latency_seconds"),
                    span=12,
                ),
            ),
        ),
        Row(
            "What callers do",
            (
                lines(
                    "Turns and barge-ins",
                    "In a minute: turns of callers that were answered, and times that they interrupted the agent.",
                    "cpm",
                    Query(f"60 * {NOW.rate('turn_latency_seconds_count')}", "turns"),
                    Query(f"60 * {NOW.rate('interruptions_total')}", "barge-ins"),
                ),
                lines(
                    "Barge-ins for each turn",
                    "Many: replies are too long, or noise counts as speech (turn detection, noise reduction).",
                    "percentunit",
                    Query(NOW.barge_in(), "barge-ins"),
                ),
                lines(
                    "Keys",
                    "Digits that callers dialled, in a minute.",
                    "cpm",
                    Query(f"60 * {NOW.rate('dtmf_digits_total')}", "digits"),
                ),
            ),
        ),
        Row(
            "Tools",
            (
                lines(
                    "Calls of tools",
                    "In a minute, by tool and how they ended: completed, failed (it raised), timed_out, refused"
                    " (the arguments were not what it takes).",
                    "cpm",
                    Query(f"60 * {NOW.rate('tool_calls_total', 'tool', 'outcome')}", "{{tool}} {{outcome}}"),
                    stacked=True,
                ),
                lines(
                    "Time that tools take",
                    "p95. The caller hears silence as long, unless the model says something first.",
                    "s",
                    Query(NOW.p95("tool_duration_seconds", "tool"), "{{tool}}"),
                    limits=thresholds.TOOL_SECONDS,
                ),
                lines(
                    "Failed tools",
                    "Part of the calls of a tool that did not end well.",
                    "percentunit",
                    Query(NOW.tool_failed("tool"), "{{tool}}"),
                    limits=thresholds.TOOL_FAILED,
                ),
            ),
        ),
        Row(
            "The Realtime API",
            (
                lines(
                    "Connecting",
                    "Time to open a connection to the Realtime API.",
                    "s",
                    *_quantiles("upstream_connect_seconds"),
                    limits=thresholds.CONNECT_SECONDS,
                ),
                lines(
                    "Errors by code",
                    "In a minute. OpenAI's own codes, and what did not get that far: connect, dns, tls, timeout,"
                    " http_…, connection_lost, no_response (it fell silent), bad_event (not understood).",
                    "cpm",
                    Query(f"60 * {NOW.rate('upstream_errors_total', 'code')}", "{{code}}"),
                    stacked=True,
                ),
                lines(
                    "Errors",
                    "In a minute of a call.",
                    "short",
                    Query(NOW.upstream_errors(), "errors"),
                    limits=thresholds.UPSTREAM_ERRORS,
                ),
            ),
        ),
        Row(
            "What broke, and was mended",
            (
                lines(
                    "Reconnects",
                    "Realtime sessions opened to go on with a call, in a minute. dropped: the connection broke;"
                    " rollover: before the API's limit of 60 minutes; repin: the call came from another worker.",
                    "cpm",
                    Query(f"60 * {NOW.rate('upstream_reconnects_total', 'reason')}", "{{reason}}"),
                    stacked=True,
                ),
                lines(
                    "Broken connections",
                    "Realtime connections that break in an hour of a call.",
                    "short",
                    Query(NOW.upstream_drops(), "dropped"),
                    limits=thresholds.UPSTREAM_DROPS,
                ),
                lines(
                    "Recovery",
                    "From the loss of a call's worker or Realtime session to the conversation restored, by why.",
                    "s",
                    *_quantiles("recovery_seconds", "reason"),
                    limits=thresholds.RECOVERY_SECONDS,
                ),
                lines(
                    "Waiting for an answer",
                    "From an answer being owed (a turn, a tool's output, keys, the greeting) to its first audio.",
                    "s",
                    *_quantiles("answer_wait_seconds"),
                ),
                lines(
                    "Answers asked for again",
                    "In a minute, by why: the response failed, was empty or incomplete, or did not come.",
                    "cpm",
                    Query(f"60 * {NOW.rate('answers_retried_total', 'reason')}", "{{reason}}"),
                    stacked=True,
                ),
                lines(
                    "Answers given up",
                    "In a minute, by why: the caller was told so, or the call took the way out.",
                    "cpm",
                    Query(f"60 * {NOW.rate('answers_given_up_total', 'reason')}", "{{reason}}"),
                    stacked=True,
                ),
                lines(
                    "Left of the Realtime API's limits",
                    "Share of OpenAI's requests and tokens that is left now: the least that any worker was told.",
                    "percentunit",
                    Query(NOW.grouped("min", NOW.series("upstream_rate_limit_remaining"), "limit"), "{{limit}}"),
                ),
                lines(
                    "Calls that could not go on",
                    "In a minute, by what became of them: transferred to FALLBACK_EXTENSION; refused: too many"
                    " transfers, or this caller's second; failed: avr-ami did not transfer it; ended; hung_up.",
                    "cpm",
                    Query(f"60 * {NOW.rate('fallbacks_total', 'outcome')}", "{{outcome}}"),
                    stacked=True,
                ),
            ),
        ),
    ),
)

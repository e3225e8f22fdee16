"""Dashboard *Conversation*: the quality that callers notice."""

from __future__ import annotations

from typing import Final

from grafana import thresholds
from grafana.dashboard import NOW, SHOWN, Dashboard, Row
from grafana.panels import Column, Query, heat, lines, listing, number


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
                    "Greeting p95",
                    "From the call's begin to the agent's first sound, p95.",
                    "s",
                    SHOWN.p95("greeting_latency_seconds"),
                    limits=thresholds.GREETING_SECONDS,
                ),
                number(
                    "Answer p95",
                    "From the end of the caller's speech to the reply's first sound, p95.",
                    "s",
                    SHOWN.p95("turn_latency_seconds"),
                    limits=thresholds.TURN_SECONDS,
                ),
                number(
                    "Barge-ins per turn",
                    "How often callers interrupted the agent, for each turn of theirs. Many: replies are too"
                    " long, or noise counts as speech.",
                    "percentunit",
                    SHOWN.barge_in(),
                ),
                number(
                    "Failed calls of tools",
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
                    "Sessions reopened",
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
                    "Greeting, as a histogram",
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
                    "Answer, as a histogram",
                    "How many turns were answered after how long.",
                    "s",
                    NOW.buckets("turn_latency_seconds"),
                    span=12,
                ),
                lines(
                    "Parts of the wait for an answer",
                    "Means, which add up to the mean wait. end_of_speech: until the API takes the turn as ended"
                    " (OPENAI_TURN_DETECTION); model: until its first sound; service: until it is handed on.",
                    "s",
                    Query(NOW.turn_part(), "{{part}}"),
                    stacked=True,
                    span=12,
                ),
                lines(
                    "Waiting for an answer",
                    "From an answer being owed (a turn, a tool's output, keys, the greeting) to its first audio.",
                    "s",
                    *_quantiles("answer_wait_seconds"),
                    span=12,
                ),
            ),
        ),
        Row(
            "Callers' audio, as it arrives",
            (
                lines(
                    "Gaps",
                    "Share of the time of calls in which no frame came for over 100 ms: the network to AVR"
                    " Core, or"
                    " Asterisk. Callers' words are missing then.",
                    "percentunit",
                    Query(NOW.caller_audio_gaps(), "missing"),
                    limits=thresholds.CALLER_AUDIO_GAPS,
                    span=6,
                ),
                lines(
                    "Number of gaps",
                    "In a minute of a call. Many short ones: a busy network. A few long ones: a stall.",
                    "short",
                    Query(f"60 * {NOW.per_call_second('caller_audio_gaps_total')}", "gaps"),
                    span=6,
                ),
                lines(
                    "Jitter",
                    "How unevenly frames arrive (RFC 3550).",
                    "s",
                    *_quantiles("caller_audio_jitter_seconds"),
                    limits=thresholds.CALLER_AUDIO_JITTER_SECONDS,
                    span=6,
                ),
                lines(
                    "Level of callers' speech",
                    "In dB below full scale, while the caller speaks. Below -40 the model may not hear the"
                    " caller.",
                    "decibel",
                    Query(NOW.quantile(0.05, "caller_audio_level_dbfs"), "p5"),
                    Query(NOW.quantile(0.5, "caller_audio_level_dbfs"), "p50"),
                    limits=thresholds.CALLER_AUDIO_LEVEL_DBFS,
                    negative=True,
                    span=6,
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
                listing(
                    "Slowest tools",
                    "Over all that is shown, by the time that 95% of their calls stay below.",
                    "tool",
                    Column("p95", SHOWN.p95("tool_duration_seconds", "tool"), "s", thresholds.TOOL_SECONDS),
                    Column("Calls", f"round({SHOWN.increase('tool_calls_total', 'tool')})", "short"),
                    Column("Failed", SHOWN.tool_failed("tool"), "percentunit", thresholds.TOOL_FAILED),
                    heading="Tool",
                    span=8,
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
                    "Sessions that wait",
                    "Realtime sessions that wait to be opened, because many are opened at once, as after the death"
                    " of a worker (SESSIONS_PER_SECOND).",
                    "short",
                    Query(NOW.total("upstream_sessions_waiting"), "sessions"),
                ),
                lines(
                    "Errors by code",
                    "In a minute. OpenAI's own codes, and what did not get that far: connect, dns, tls, timeout,"
                    " http_…, connection_lost, no_response (it fell silent), bad_event (not understood). call:"
                    " the call brought"
                    " a key of its own.",
                    "cpm",
                    Query(f"60 * {NOW.rate('upstream_errors_total', 'code', 'key')}", "{{code}} {{key}}"),
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
                    "Share of the requests and tokens that OpenAI still allows now: the least that a worker with"
                    " calls was told, with the key of the settings.",
                    "percentunit",
                    Query(NOW.rate_limit_remaining(), "{{limit}}"),
                    limits=thresholds.RATE_LIMIT_REMAINING,
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

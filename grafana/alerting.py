"""Recording and alert rules for Prometheus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from grafana import thresholds
from grafana.formulas import PREFIX, Formulas

EVERY: Final = "30s"
"""Interval at which rules are evaluated."""

RUNBOOK: Final = "docs/operations.md"

_BY = ("namespace",)
_5M = Formulas(window="5m", by=_BY)
_10M = Formulas(window="10m", by=_BY)
_15M = Formulas(window="15m", by=_BY)
_30M = Formulas(window="30m", by=_BY)
_1H = Formulas(window="1h", by=_BY)


@dataclass(frozen=True, slots=True)
class Recording:
    """A recorded figure, for autoscalers, for long ranges, and for the alerts below."""

    name: str
    expr: str

    def wire(self) -> dict[str, Any]:
        """Return the rule as Prometheus reads it."""
        return {"record": self.name, "expr": self.expr}


@dataclass(frozen=True, slots=True)
class When:
    """A figure with its bad values.

    Attributes:
        expr: query that returns a value whenever the service runs.
        bad: comparison, such as `> 0.5`.
    """

    expr: str
    bad: str

    def __str__(self) -> str:
        return f"{self.expr} {self.bad}"  # a comparison binds weaker than arithmetic, and stronger than `and`


@dataclass(frozen=True, slots=True)
class Alert:
    """A condition on which an operator has to act.

    Attributes:
        name: name of the alert, and of its paragraph in the operator's guide.
        severity: `critical` if callers notice it now, `warning` if they will notice it.
        lasts: time for which the condition must hold.
        when: conditions that must all hold; the text shows the first one's value.
        summary: text that names the fault.
        description: text that names the remedy.
        on: labels that the conditions share.
    """

    name: str
    severity: str
    lasts: str
    when: tuple[When, ...]
    summary: str
    description: str
    on: tuple[str, ...] = _BY

    @property
    def expr(self) -> str:
        """Return the query that Prometheus evaluates."""
        return f" and on ({', '.join(self.on)}) ".join(map(str, self.when))

    def wire(self) -> dict[str, Any]:
        """Return the rule as Prometheus reads it."""
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": self.lasts,
            "labels": {"severity": self.severity},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook": f"{RUNBOOK}#{self.name.lower()}",
            },
        }


RECORDINGS: Final = (
    Recording("namespace:avr_sts_calls_active:sum", _5M.total("calls_active")),
    Recording("namespace:avr_sts_calls_capacity:sum", _5M.total("calls_capacity")),
    # These ratios are for people and alerts. Autoscalers take the raw figures; a missing figure has no ratio.
    Recording("namespace:avr_sts_calls_load:ratio", _5M.load()),
    Recording("namespace_outcome:avr_sts_calls:rate5m", _5M.rate("calls_total", "outcome")),
    Recording("namespace:avr_sts_calls_failed:ratio_rate10m", _10M.calls_failed()),
    Recording("namespace:avr_sts_greeting_latency_seconds:p95_10m", _10M.p95("greeting_latency_seconds")),
    Recording("namespace:avr_sts_turn_latency_seconds:p50_10m", _10M.quantile(0.5, "turn_latency_seconds")),
    Recording("namespace:avr_sts_turn_latency_seconds:p95_10m", _10M.p95("turn_latency_seconds")),
    Recording("namespace:avr_sts_upstream_connect_seconds:p95_10m", _10M.p95("upstream_connect_seconds")),
    Recording("namespace:avr_sts_recovery_seconds:p95_15m", _15M.recovery()),
    Recording(
        "namespace_process:avr_sts_event_loop_lag_seconds:p99_5m",
        _5M.quantile(0.99, "event_loop_lag_seconds", "process"),
    ),
    Recording("namespace:avr_sts_cost_usd:per_hour_rate1h", _1H.cost_per_hour()),
    Recording("namespace:avr_sts_cost_usd:per_call_minute_rate1h", _1H.cost_per_call_minute()),
    Recording("namespace:avr_sts_input_tokens_cached:ratio_rate1h", _1H.cached_input()),
)

ALERTS: Final = (
    Alert(
        "AvrStsNoDispatcher",
        "critical",
        "2m",
        (When(f"absent({PREFIX}redis_up)", "> 0"),),
        "No dispatcher is visible",
        "Prometheus has scraped no dispatcher for 2 minutes. AVR Core has no dispatcher, or Prometheus does not"
        " reach ADMIN_PORT. Look whether the dispatchers run (their log's last line says why they ended: a wrong"
        " setting names its variable), then at the scrape targets in Prometheus.",
    ),
    Alert(
        "AvrStsNoWorkers",
        "critical",
        "1m",
        (When(_5M.workers(), "< 1"),),
        "There are dispatchers, but no workers",
        "Every call is refused (close code 1013). Look whether the workers run and why they ended; a worker that"
        " runs and is not seen has another REDIS_URL than the dispatchers, or is not scraped.",
    ),
    Alert(
        "AvrStsNearCapacity",
        "warning",
        "5m",
        (When("namespace:avr_sts_calls_load:ratio", f">= {thresholds.CALLS_LOAD.yellow:g}"),),
        "Workers are {{ $value | humanizePercentage }} full",
        "New calls are refused when no worker has room. Add workers; raise WORKER_MAX_CALLS only if the event"
        " loops are not late (dashboard Fleet). With an autoscaler: look whether it is at its maximum, and whether"
        " it gets what it scales by, avr_sts_calls_active over avr_sts_calls_capacity, of every worker.",
    ),
    Alert(
        "AvrStsCallsRejected",
        "critical",
        "0m",
        (When(_5M.rejected(), "> 0"),),
        "Callers are turned away",
        '{{ $value | printf "%.0f" }} calls in 5 minutes found no worker with room. Add workers now. Until then'
        " the dialplan decides what these callers hear (see the operator's guide).",
    ),
    Alert(
        "AvrStsCallsFail",
        "critical",
        "5m",
        (
            When("namespace:avr_sts_calls_failed:ratio_rate10m", f">= {thresholds.CALLS_FAILED.red:g}"),
            When(_10M.increase("calls_total", match=('outcome="failed"',)), "> 2"),
        ),
        "{{ $value | humanizePercentage }} of the calls end by a fault",
        "Look for the reason in the log (event `call ended` with ending `failed`, and `session failed` of the"
        " same uuid), then at upstream errors by code (dashboard Conversation) and at workers that restart"
        " (Fleet).",
    ),
    Alert(
        "AvrStsGreetingSlow",
        "warning",
        "10m",
        (
            When(
                "namespace:avr_sts_greeting_latency_seconds:p95_10m",
                f">= {thresholds.GREETING_SECONDS.red:g}",
            ),
        ),
        "Callers wait {{ $value | humanizeDuration }} (p95) for the greeting",
        "Compare with the time to connect to the Realtime API (dashboard Conversation). If that is short, it is"
        " what happens before: OPENAI_URL_INSTRUCTIONS answers late, or workers are busy (event loops, dashboard"
        " Fleet). If it is long, see AvrStsUpstreamSlow.",
    ),
    Alert(
        "AvrStsTurnsSlow",
        "warning",
        "10m",
        (When("namespace:avr_sts_turn_latency_seconds:p95_10m", f">= {thresholds.TURN_SECONDS.red:g}"),),
        "Answers come after {{ $value | humanizeDuration }} (p95)",
        "Mostly the model: a larger model, a higher OPENAI_REASONING_EFFORT, long instructions, or OpenAI itself"
        " (its status page). If event loops are late or frames stay long in a process (dashboard Fleet), it is"
        " here: add workers. Slow tools are not in this figure, but in the tools' own.",
    ),
    Alert(
        "AvrStsUpstreamRefuses",
        "critical",
        "0m",
        (When(_5M.upstream_refusals(), "> 0"),),
        "The Realtime API refuses our sessions: {{ $labels.code }}",
        "This lasts until an operator mends it: the key (OPENAI_API_KEY), the account's quota or billing, or the"
        " model (OPENAI_MODEL). The log line `upstream error` or `session failed` says which. A call that brings a"
        " key of its own in init can cause it, too: then only its tenant is concerned.",
        on=("namespace", "code"),
    ),
    Alert(
        "AvrStsUpstreamErrors",
        "warning",
        "5m",
        (
            When(_10M.upstream_errors(), f">= {thresholds.UPSTREAM_ERRORS.red:g}"),
            When(_10M.increase("upstream_errors_total"), "> 4"),
        ),
        'The Realtime API reports {{ $value | printf "%.1f" }} errors in a minute of a call',
        "See which codes (dashboard Conversation). rate_limit_exceeded: ask for a higher limit, or spread over"
        " projects. server_error, connect, timeout: OpenAI's status page, then the way there (DNS, proxy,"
        " firewall). invalid_value and the like after a change: OPENAI_SESSION or a tool's input_schema.",
    ),
    Alert(
        "AvrStsUpstreamSlow",
        "warning",
        "10m",
        (
            When(
                "namespace:avr_sts_upstream_connect_seconds:p95_10m",
                f">= {thresholds.CONNECT_SECONDS.red:g}",
            ),
        ),
        "Connecting to the Realtime API takes {{ $value | humanizeDuration }} (p95)",
        "Look at OpenAI's status page, then at what is between: DNS, a proxy, NAT that has no ports left, CPU"
        " limits (a TLS handshake takes CPU).",
    ),
    Alert(
        "AvrStsUpstreamDrops",
        "warning",
        "5m",
        (
            When(_10M.upstream_drops(), f">= {thresholds.UPSTREAM_DROPS.red:g}"),
            When(_10M.increase("upstream_reconnects_total", match=('reason="dropped"',)), "> 4"),
        ),
        'Realtime connections break {{ $value | printf "%.1f" }} times in an hour of a call',
        "Calls go on in a new session, and callers hear a pause. Look at OpenAI's status page; if it is quiet, at"
        " what is between: a proxy or NAT with an idle or maximum time, a node that is being drained.",
    ),
    Alert(
        "AvrStsWorkerLost",
        "warning",
        "0m",
        (When(_10M.increase("repins_total", match=('reason="worker_lost"',)), "> 0"),),
        "Calls lost their worker",
        '{{ $value | printf "%.0f" }} calls went on at another worker in 10 minutes, because theirs died, hung or'
        " could not be reached. Find out why: out of memory (the container's last state), a node that went away,"
        " a network that broke (log `link lost`), a stalled event loop (dashboard Fleet).",
    ),
    Alert(
        "AvrStsWorkersRestart",
        "warning",
        "0m",
        (When(_30M.worker_restarts(), f">= {thresholds.WORKER_RESTARTS.red:g}"),),
        'Workers were restarted {{ $value | printf "%.0f" }} times in 30 minutes',
        "Look at the log before each restart (`process ended` names the signal or exit status; in a cluster: the"
        " container's last state). Status SIGKILL behind `process hung` is a worker that was stalled; otherwise it"
        " is mostly the kernel: out of memory. One that crashes at its start has a setting or a tool that"
        " breaks it.",
    ),
    Alert(
        "AvrStsRecoverySlow",
        "warning",
        "0m",
        (When("namespace:avr_sts_recovery_seconds:p95_15m", f">= {thresholds.RECOVERY_SECONDS.red:g}"),),
        "Calls that broke were silent for {{ $value | humanizeDuration }} (p95)",
        "From the loss of a call's worker or Realtime session to the conversation restored. After a lost worker:"
        " the others had no room, or their event loops are late (dashboard Fleet): keep spare capacity of one"
        " worker. After a dropped session: the Realtime API opens sessions slowly, see AvrStsUpstreamSlow.",
    ),
    Alert(
        "AvrStsRedisDown",
        "critical",
        "1m",
        (When(_5M.redis(), "< 1"),),
        "Dispatchers do not reach Redis",
        "Calls go on, and new ones are placed from the last known table; but workers that come are not found, and"
        " the calls API is incomplete. Look whether Redis runs, at REDIS_URL, and at the network between. When it"
        " is back, everything is written again by itself.",
    ),
    Alert(
        "AvrStsRecordsWait",
        "warning",
        "5m",
        (When(_5M.records_oldest(), f">= {thresholds.RECORDS_OLDEST_SECONDS.red:g}"),),
        "A call record has waited {{ $value | humanizeDuration }} for delivery",
        "The receiver at CALL_RECORDS_WEBHOOK, or the disk of CALL_RECORDS_DIR, does not take records; the log"
        " line 'call records not delivered' says why. They are tried again for a day, and wait up to"
        " CALL_RECORDS_MAX_BYTES.",
    ),
    Alert(
        "AvrStsRecordsLost",
        "warning",
        "0m",
        (When(_15M.records_lost(), f">= {thresholds.RECORDS_LOST.red:g}"),),
        "Call records are dropped, or were given up",
        "Panel 'Call records' tells dropped from dead. Dead: see GET /calls?dead, mend the receiver, and"
        " POST /records/retry. Dropped: records waited until CALL_RECORDS_MAX_BYTES was full; these are lost.",
    ),
    Alert(
        "AvrStsEventLoopLate",
        "warning",
        "5m",
        (
            When(
                "namespace_process:avr_sts_event_loop_lag_seconds:p99_5m",
                f">= {thresholds.EVENT_LOOP_SECONDS.red:g}",
            ),
        ),
        "Event loops of {{ $labels.process }}s run {{ $value | humanizeDuration }} late (p99)",
        "Audio is late by as much. There are too many calls for the CPU: add processes or cores, lower"
        " WORKER_MAX_CALLS, lift CPU limits (throttling looks like this). With few calls: a custom tool that"
        " computes without a thread, or a node that swaps.",
        on=("namespace", "process"),
    ),
    Alert(
        "AvrStsAudioDropped",
        "warning",
        "5m",
        (When(_5M.audio_dropped(), f">= {thresholds.AUDIO_DROPPED.red:g}"),),
        "{{ $value | humanizePercentage }} of the audio is dropped ({{ $labels.direction }})",
        "in: from callers to the model; the Realtime API or the worker does not keep up, or sessions cannot be"
        " opened. out: to callers; AVR Core does not read fast enough. Look at event loops (dashboard Fleet), then"
        " at the network to AVR Core or OpenAI.",
        on=("namespace", "direction"),
    ),
    Alert(
        "AvrStsRecordingStopped",
        "warning",
        "0m",
        (When(_10M.recording_dropped("reason"), "> 0"),),
        'Recordings lack {{ $value | printf "%.0f" }} seconds ({{ $labels.reason }})',
        "Calls go on. disk: less than 5% of the disk is free; lower RECORDINGS_MAX_BYTES or enlarge the disk."
        " error: the disk is full, read-only or broken (log `recording stopped`). queue: the disk is too slow."
        " length: a call is longer than four hours. late: the network to AVR Core stalls for seconds.",
        on=("namespace", "reason"),
    ),
    Alert(
        "AvrStsToolFails",
        "warning",
        "5m",
        (
            When(_15M.tool_failed("tool"), f">= {thresholds.TOOL_FAILED.red:g}"),
            When(_15M.increase("tool_calls_total", "tool", match=('outcome!="completed"',)), "> 3"),
        ),
        "{{ $value | humanizePercentage }} of the calls of tool {{ $labels.tool }} fail",
        "The outcome says how (dashboard Conversation). failed: it raised, see the log line `tool called` of that"
        " name. timed_out: what it asks is slow, or TOOL_TIMEOUT_SECONDS too short. refused: the model calls it"
        " with wrong arguments, so describe them better. For avr_transfer and avr_hangup look at avr-ami.",
        on=("namespace", "tool"),
    ),
    Alert(
        "AvrStsCostHigh",
        "warning",
        "15m",
        (
            When(
                "namespace:avr_sts_cost_usd:per_call_minute_rate1h",
                f">= {thresholds.COST_USD_PER_CALL_MINUTE.red:g}",
            ),
        ),
        'A minute of a call costs {{ $value | printf "%.2f" }} USD',
        "Look at dashboard Cost. Many input tokens that are not cached: instructions or tools that change within"
        " a call, or a long context (OPENAI_TRUNCATION). Many output tokens: instructions that do not ask for"
        " brief answers. Or a dearer model, by OPENAI_MODEL, init or an instructions service.",
    ),
    Alert(
        "AvrStsCostUnknown",
        "warning",
        "15m",
        (When(_1H.cost_per_token(), "<= 0"),),
        "Model {{ $labels.model }} has no price",
        "Its tokens are counted, but not what they cost. Add the model, with its prices or as an alias of one that"
        " has them, to a price file, and name that file in PRICES_FILE.",
        on=("namespace", "model"),
    ),
)


def groups(name: str, rules: tuple[Recording, ...] | tuple[Alert, ...]) -> dict[str, Any]:
    """Return the content of a rule file."""
    return {"groups": [{"name": name, "interval": EVERY, "rules": [rule.wire() for rule in rules]}]}

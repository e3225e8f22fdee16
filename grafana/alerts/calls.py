"""Alerts on what callers experience: no service, failed calls, turned away, late answers."""

from __future__ import annotations

from typing import Final

from grafana.formulas import CALLERS_LOST, PREFIX
from grafana.recordings import DISPATCHERS, WORKERS, failed_share
from grafana.rule import BY, SCOPE, Alert, Case, When, limit, over, recorded

REMEMBERED: Final = "6h"
"""Time for which processes that vanished are missed, unless the chart's rules name them."""


def _vanished(count: str, metric: str) -> tuple[Case, Case]:
    """Return the cases of processes that were there within the last hours, and of none at all.

    In the chart, the matchers of `absent` name one release, so that the second case lasts until its end.
    """
    remembered = f"last_over_time({recorded(count)}[{REMEMBERED}])"
    raw = f"{PREFIX}{metric}{{{SCOPE}}}"
    return (
        (When(f"{remembered} unless {recorded(count)}", "", recorded(count)),),
        (When(f"absent({raw}) unless on () {remembered}", "", raw),),
    )


def _burns(factor: float, long: str, short: str, failures: float) -> Case:
    """Return the case of a budget that burns `factor` times too fast over both windows.

    The short window ends the alert soon after the fault. The number of failures keeps a single call from firing.
    """
    bad = f"> {factor:g} * (1 - {limit('callsObjective')})"
    return (
        When(recorded(failed_share(long)), bad),
        When(recorded(failed_share(short)), bad),
        # An increase is extrapolated by up to a tenth. So 4.5 is a fifth call, and never a fourth one.
        When(over(long).failed_by_us(), f"> {failures:g}"),
    )


def _all_fail(window: str) -> Case:
    return (
        When(over(window).failed_by_us(), "> 2.5"),
        When(recorded(failed_share(window)), "> 0.95"),
    )


_NO_CALL: Final = f"{over('1h').increase('calls_total')} < 0.5"
_REFUSED_ALONE: Final = f"{over('1h').connections_refused()} > 2.5 and on ({', '.join(BY)}) ({_NO_CALL})"
"""Connections that are refused while no call comes through: of a site with few calls, these may be all calls."""

ALERTS: Final = (
    Alert(
        "AvrStsNoDispatcher",
        "critical",
        "2m",
        _vanished(DISPATCHERS, "redis_up"),
        "No dispatcher is visible in namespace {{ $labels.namespace }}",
        "Callers reach nobody, because AVR Core has no dispatcher; or Prometheus alone does not reach ADMIN_PORT.",
        "Look whether the dispatchers run, and at the last line of their log, then at the targets in Prometheus.",
    ),
    Alert(
        "AvrStsNoWorkers",
        "critical",
        "1m",
        ((When(recorded(WORKERS), "< 1"),), *_vanished(WORKERS, "calls_capacity")),
        "No worker is visible in namespace {{ $labels.namespace }}",
        "Callers hear the recorded sentence, or the line drops (close code 1013); or Prometheus alone does not"
        " reach the workers.",
        "Look whether the workers run and why they ended, then whether they have the dispatchers' REDIS_URL.",
    ),
    Alert(
        "AvrStsEveryCallFails",
        "critical",
        "0m",
        tuple(map(_all_fail, ("30m", "2h", "6h"))),
        'The last {{ $value | printf "%.0f" }} calls all failed',
        "Callers get no conversation at all. Few calls come, so no rate shows it.",
        "Look at the reason of the failed calls, then place a test call.",
    ),
    Alert(
        "AvrStsCallsFail",
        "critical",
        "2m",
        (_burns(14.4, "1h", "5m", 4.5), _burns(6, "6h", "30m", 9.5)),
        "{{ $value | humanizePercentage }} of the calls end by a fault of the service",
        "Callers hear the recorded sentence, or the line drops.",
        "Look at the reasons of the failed calls, then at errors of the Realtime API and at restarts.",
    ),
    Alert(
        "AvrStsCallsFailSlowly",
        "warning",
        "15m",
        (_burns(2, "6h", "30m", 4.5), _burns(1, "3d", "6h", 9.5)),
        "{{ $value | humanizePercentage }} of the calls end by a fault of the service, for hours",
        "Callers are let down more often than the objective permits; each hears the recorded sentence, or the"
        " line drops.",
        "Look within the working day at the reasons of the failed calls, and at what changed when they began.",
    ),
    Alert(
        "AvrStsCallersLost",
        "warning",
        "10m",
        (
            (
                When(over("1h").callers_lost(), f">= {limit('callersLost')}"),
                When(
                    over("1h").increase("calls_total", "reason", match=(CALLERS_LOST,)),
                    "> 4.5",
                ),
            ),
        ),
        "{{ $value | humanizePercentage }} of the calls are broken off ({{ $labels.reason }})",
        "Callers are cut off, or hear silence: AVR Core, or the network to it, breaks the connection.",
        "Look at AVR Core's log, and at time limits of what is between AVR Core and the dispatchers.",
        on=(*BY, "reason"),
    ),
    Alert(
        "AvrStsConnectionsRefused",
        "warning",
        "10m",
        (
            (When(over("10m").connections_refused(), f">= {limit('connectionsRefused')}"),),
            (When(_REFUSED_ALONE, "", over("1h").connections_refused()),),
        ),
        '{{ $value | printf "%.0f" }} connections were refused ({{ $labels.reason }})',
        "Callers hear nothing if the refused peer is AVR Core; no other figure counts their calls.",
        "Look which peer is refused. For reason token, compare STS_TOKEN with the token in AVR Core's STS_URL.",
        on=(*BY, "reason"),
    ),
    Alert(
        "AvrStsNearCapacity",
        "warning",
        "5m",
        ((When(recorded("namespace:avr_sts_calls_load:ratio"), f">= {limit('callsLoad')}"),),),
        "Workers are {{ $value | humanizePercentage }} full",
        "Callers notice nothing yet. The next ones are turned away when no worker has room.",
        "Add workers. With an autoscaler, look whether it is at its maximum.",
    ),
    Alert(
        "AvrStsCallsRejected",
        "critical",
        "0m",
        ((When(over("5m").rejected(), f">= {limit('callsRejected')}"),),),
        "Callers are turned away",
        'Callers hear the recorded sentence, or the line drops: {{ $value | printf "%.0f" }} calls in 5 minutes'
        " found no worker with room.",
        "Add workers now; until then the dialplan decides what these callers hear.",
    ),
    Alert(
        "AvrStsFallbackFails",
        "critical",
        "0m",
        ((When(over("15m").fallbacks_failed(), f">= {limit('fallbacksFailed')}"),),),
        'avr-ami did not transfer {{ $value | printf "%.0f" }} calls to people',
        "Callers whose call could not go on were hung up on, and should have reached FALLBACK_EXTENSION.",
        "Look whether avr-ami runs and reaches Asterisk, and whether FALLBACK_EXTENSION exists there.",
    ),
    Alert(
        "AvrStsGreetingSlow",
        "warning",
        "10m",
        (
            (
                When(
                    recorded("namespace:avr_sts_greeting_latency_seconds:p95_10m"),
                    f">= {limit('greetingSeconds')}",
                ),
            ),
        ),
        "Callers wait {{ $value | humanizeDuration }} (p95) for the greeting",
        "Callers hear silence after the call was answered, and hang up after a few seconds.",
        "Compare with the time to connect to the Realtime API; if that is short, look at OPENAI_URL_INSTRUCTIONS.",
    ),
    Alert(
        "AvrStsTurnsSlow",
        "warning",
        "10m",
        ((When(recorded("namespace:avr_sts_turn_latency_seconds:p95_10m"), f">= {limit('turnSeconds')}"),),),
        "Answers come after {{ $value | humanizeDuration }} (p95)",
        "Callers wait for each answer, and begin to speak again.",
        "Look which part is slow (turn_part_seconds): end_of_speech and model are settings, service is our CPU.",
    ),
    Alert(
        "AvrStsRecoverySlow",
        "warning",
        "0m",
        ((When(recorded("namespace:avr_sts_recovery_seconds:p95_15m"), f">= {limit('recoverySeconds')}"),),),
        "Calls that broke were silent for {{ $value | humanizeDuration }} (p95)",
        "Callers heard silence in their call, from the loss of a worker or a session to the next one.",
        "Look whether the other workers had room, then how fast the Realtime API opens sessions.",
    ),
    Alert(
        "AvrStsAudioDropped",
        "warning",
        "5m",
        ((When(over("5m").audio_dropped(), f">= {limit('audioDropped')}"),),),
        "{{ $value | humanizePercentage }} of the audio is dropped ({{ $labels.direction }})",
        "Callers are misunderstood (in), or hear gaps (out).",
        "Look at late event loops, then at the network to the Realtime API (in) or to AVR Core (out).",
        on=(*BY, "direction"),
    ),
    Alert(
        "AvrStsCallerAudioGaps",
        "warning",
        "10m",
        ((When(over("10m").caller_audio_gaps(), f">= {limit('callerAudioGaps')}"),),),
        "{{ $value | humanizePercentage }} of the callers' audio does not arrive in time",
        "Callers are misunderstood, and interrupted in the middle of a sentence.",
        "Look at the network between the dispatchers, AVR Core and Asterisk, and at the CPU of both.",
    ),
)

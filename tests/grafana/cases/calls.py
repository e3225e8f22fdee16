"""Cases of the alerts on what callers experience."""

from __future__ import annotations

from typing import Final

from grafana.rule import RELEASE
from tests.grafana.cases.case import (
    ALIVE,
    BAD,
    GOOD,
    LOADED,
    TEN_CALLS,
    TENANTS_REFUSED,
    AlertCase,
    of,
    rejected,
    slow,
    steps,
)

STAGING: Final = {
    of("redis_up", namespace="staging"): "1x1300",
    of("calls_capacity", namespace="staging"): "9x1300",
}

ALERT_CASES: Final = (
    # Production vanishes, while staging lives.
    AlertCase("AvrStsNoDispatcher", {of("redis_up"): "1x60 stale", **STAGING}, "45m"),
    AlertCase("AvrStsNoDispatcher", {of("redis_up"): "1x60 _x20 1x60", **STAGING}, "45m", firing=False),
    # It is missed for six hours: an installation that was removed on purpose is forgotten then.
    AlertCase("AvrStsNoDispatcher", {of("redis_up"): "1x15 stale", **STAGING}, "6h25m", every="2m"),
    AlertCase("AvrStsNoDispatcher", {of("redis_up"): "1x15 stale", **STAGING}, "6h35m", every="2m", firing=False),
    # The last installation is missed with its namespace, and then without.
    AlertCase("AvrStsNoDispatcher", {of("redis_up"): "1x60 stale"}, "45m"),
    AlertCase("AvrStsNoDispatcher", {of("redis_up"): "1x15 stale"}, "6h35m", labels={}, every="2m"),
    AlertCase("AvrStsNoDispatcher", {}, "5m", labels={}),
    AlertCase("AvrStsNoDispatcher", {}, "1m", firing=False),
    AlertCase("AvrStsNoDispatcher", {of("redis_up"): "0x20"}, "5m", firing=False),
    # Of two releases in one namespace, one vanishes.
    AlertCase(
        "AvrStsNoDispatcher",
        {of("redis_up", **{RELEASE: "calls"}): "1x60 stale", of("redis_up", **{RELEASE: "next"}): "1x200"},
        "45m",
        labels={"namespace": "voice", RELEASE: "calls"},
    ),
    AlertCase("AvrStsNoWorkers", {of("redis_up"): "1x20"}, "5m"),
    # Workers of another namespace do not count.
    AlertCase("AvrStsNoWorkers", {of("redis_up"): "1x20", of("calls_capacity", namespace="other"): "9x20"}, "5m"),
    AlertCase("AvrStsNoWorkers", {of("redis_up"): "1x20", **LOADED}, "5m", firing=False),
    # Workers vanish together with the dispatchers.
    AlertCase(
        "AvrStsNoWorkers",
        {of("redis_up"): "1x60 stale", of("calls_capacity"): "9x60 stale", **STAGING},
        "45m",
    ),
    # A call every five minutes, and each fails.
    AlertCase("AvrStsEveryCallFails", {GOOD: "7x200", BAD: steps(every=10, times=14)}, "40m", value="6"),
    # A call every hour, and each fails since the service started.
    AlertCase("AvrStsEveryCallFails", {GOOD: "0x200", BAD: steps(every=30, times=6)}, "4h", value="4", every="2m"),
    # The first failures behind a good call do not yet fire, and neither do two failed calls.
    AlertCase(
        "AvrStsEveryCallFails",
        {GOOD: steps(every=10, times=3) + " 2x200", BAD: "0x29 " + steps(every=10, times=14)},
        "30m",
        firing=False,
    ),
    AlertCase("AvrStsEveryCallFails", {GOOD: "0x200", BAD: "0x9 1x9 2x180"}, "40m", firing=False),
    # Callers that hang up, or a broken network before the service, are no fault of the service.
    AlertCase(
        "AvrStsEveryCallFails",
        {GOOD: "0x200", of("calls_total", outcome="failed", reason="caller_lost"): "0+1x200"},
        "40m",
        firing=False,
    ),
    # A quarter of the calls fails after a good hour.
    AlertCase(
        "AvrStsCallsFail",
        {GOOD: "0+4x120 480+3x200", BAD: "0x120 0+1x200"},
        "110m",
        value="19.63%",
    ),
    # 8% fail for hours.
    AlertCase("AvrStsCallsFail", {GOOD: "0+92x100", BAD: "0+8x100"}, "5h", value="8%", every="5m"),
    AlertCase("AvrStsCallsFail", {GOOD: "0+97x120", BAD: "0+3x120"}, "9h", firing=False, every="5m"),
    # It ends soon after the fault.
    AlertCase("AvrStsCallsFail", {GOOD: "0x120 0+4x200", BAD: "0+4x120 480x200"}, "100m", firing=False),
    # A single failed call is not a trend, and four of five calls in an hour are too few for a page.
    AlertCase("AvrStsCallsFail", {GOOD: "5x60", BAD: "0x30 1x30"}, "20m", firing=False),
    AlertCase("AvrStsCallsFail", {GOOD: "0 1x200", BAD: steps(every=20, times=5) + " 4x100"}, "52m", firing=False),
    # A third of the calls fails by a tenant's bad key, for hours; alone in the night, all calls do.
    *(
        AlertCase(
            alert,
            {GOOD: "0+100x100", BAD: "0+50x100", TENANTS_REFUSED: "0+50x100"},
            "5h",
            firing=False,
            every="5m",
        )
        for alert in ("AvrStsCallsFail", "AvrStsCallsFailSlowly")
    ),
    AlertCase(
        "AvrStsEveryCallFails",
        {GOOD: "7x200", BAD: steps(every=10, times=14), TENANTS_REFUSED: steps(every=10, times=14)},
        "40m",
        firing=False,
    ),
    # Such a key hides no fault of ours.
    AlertCase(
        "AvrStsCallsFail",
        {GOOD: "0+80x100", BAD: "0+20x100", TENANTS_REFUSED: "0+5x100"},
        "5h",
        value="15%",
        every="5m",
    ),
    # 3% fail for nine hours, after nine good ones, and without a past.
    AlertCase(
        "AvrStsCallsFailSlowly",
        {GOOD: "0+100x108 10800+97x120", BAD: "0x108 0+3x120"},
        "18h",
        value="3%",
        every="5m",
    ),
    AlertCase("AvrStsCallsFailSlowly", {GOOD: "0+97x120", BAD: "0+3x120"}, "9h", value="3%", every="5m"),
    # 1.5% fail for more than a day.
    AlertCase("AvrStsCallsFailSlowly", {GOOD: "0+985x400", BAD: "0+15x400"}, "30h", value="1.5%", every="5m"),
    AlertCase("AvrStsCallsFailSlowly", {GOOD: "0+992x200", BAD: "0+8x200"}, "8h", firing=False, every="5m"),
    AlertCase(
        "AvrStsCallersLost",
        {GOOD: "0+4x200", of("calls_total", outcome="failed", reason="caller_lost"): "0+1x200"},
        "80m",
        value="20%",
        labels={"namespace": "voice", "reason": "caller_lost"},
    ),
    AlertCase(
        "AvrStsCallersLost",
        {GOOD: "0+40x200", of("calls_total", outcome="failed", reason="caller_lost"): "0+1x200"},
        "80m",
        firing=False,
    ),
    AlertCase(
        "AvrStsConnectionsRefused",
        {of("connections_refused_total", reason="token"): "0+1x100", **ALIVE},
        "25m",
        value="20",
        labels={"namespace": "voice", "reason": "token"},
    ),
    AlertCase(
        "AvrStsConnectionsRefused",
        {of("connections_refused_total", reason="token"): "0x20 3x80", **ALIVE},
        "25m",
        firing=False,
    ),
    # AVR Core calls every five minutes with a wrong token, and no call comes through.
    AlertCase(
        "AvrStsConnectionsRefused",
        {of("connections_refused_total", reason="token"): steps(every=10, times=20), GOOD: "7x300"},
        "90m",
        value="12",
        labels={"namespace": "voice", "reason": "token"},
    ),
    # A scanner comes every five minutes, and calls come through.
    AlertCase(
        "AvrStsConnectionsRefused",
        {
            of("connections_refused_total", reason="token"): steps(every=10, times=20),
            GOOD: steps(every=20, times=10),
        },
        "90m",
        firing=False,
    ),
    AlertCase("AvrStsNearCapacity", LOADED, "10m", value="85%"),
    AlertCase("AvrStsNearCapacity", LOADED, "4m", firing=False),
    AlertCase("AvrStsNearCapacity", {**LOADED, of("calls_active", pod="w1"): "100x60"}, "10m", firing=False),
    AlertCase("AvrStsCallsRejected", {rejected("no_capacity"): "0+1x20"}, "5m", value="10"),
    AlertCase("AvrStsCallsRejected", {rejected("no_worker"): "0+1x20"}, "5m", value="10"),
    AlertCase("AvrStsCallsRejected", {rejected("no_capacity"): "7x20"}, "5m", firing=False),
    # A connection without `init` is no caller.
    AlertCase("AvrStsCallsRejected", {rejected("protocol"): "0+1x20"}, "5m", firing=False),
    AlertCase("AvrStsCallsRejected", {GOOD: "0+1x20"}, "5m", firing=False),
    AlertCase("AvrStsFallbackFails", {of("fallbacks_total", outcome="failed"): "0x10 1x40"}, "10m", value="1"),
    AlertCase("AvrStsFallbackFails", {of("fallbacks_total", outcome="ended"): "0+1x40"}, "10m", firing=False),
    AlertCase("AvrStsGreetingSlow", slow("greeting_latency_seconds", "4", "6"), "25m", value="5.9s"),
    AlertCase("AvrStsGreetingSlow", slow("greeting_latency_seconds", "1", "1.5"), "25m", firing=False),
    AlertCase("AvrStsTurnsSlow", slow("turn_latency_seconds", "3", "4"), "25m", value="3.95s"),
    AlertCase("AvrStsTurnsSlow", slow("turn_latency_seconds", "0.8", "1"), "25m", firing=False),
    AlertCase("AvrStsRecoverySlow", slow("recovery_seconds", "3", "5", reason="worker_lost"), "20m", value="4.9s"),
    AlertCase(
        "AvrStsRecoverySlow",
        slow("recovery_seconds", "0.3", "0.5", reason="worker_lost"),
        "20m",
        firing=False,
    ),
    AlertCase(
        "AvrStsCallerAudioGaps",
        {of("caller_audio_gap_seconds_total"): "0+15x60", **TEN_CALLS},
        "25m",
        value="5%",
    ),
    AlertCase(
        "AvrStsCallerAudioGaps",
        {of("caller_audio_gap_seconds_total"): "0+0.15x60", **TEN_CALLS},
        "25m",
        firing=False,
    ),
    AlertCase(
        "AvrStsAudioDropped",
        {of("audio_dropped_seconds_total", direction="in"): "0+6x60", **TEN_CALLS},
        "15m",
        value="2%",
        labels={"namespace": "voice", "direction": "in"},
    ),
    AlertCase(
        "AvrStsAudioDropped",
        {of("audio_dropped_seconds_total", direction="in"): "0+0.06x60", **TEN_CALLS},
        "15m",
        firing=False,
    ),
)

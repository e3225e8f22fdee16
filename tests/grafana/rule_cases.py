"""Cases for promtool: series, and the results of the rules."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

from grafana.alerting import ALERTS
from grafana.rule import RELEASE, Alert, filled

Series = dict[str, str]
"""Values by series, in promtool's notation: `0+2x60` is 0, 2, 4 ... 120."""

_VALUE = re.compile(r"{{ \$value[^}]*}}")
_LABEL = re.compile(r"{{ \$labels\.(\w+) }}")


@dataclass(frozen=True, slots=True)
class AlertCase:
    """An alert that fires, or that does not fire.

    Attributes:
        alert: name of the alert.
        series: series before the evaluation.
        at: time of the evaluation.
        firing: whether the alert fires then.
        value: the value in its texts.
        labels: labels of the alert, without `severity`.
        every: time between two samples.
    """

    alert: str
    series: Series
    at: str
    firing: bool = True
    value: str = ""
    labels: Series = field(default_factory=lambda: {"namespace": "voice"})
    every: str = "30s"

    @property
    def rule(self) -> str:
        """Return the name of the rule."""
        return self.alert

    def wire(self) -> dict[str, Any]:
        """Return the case as promtool reads it; promtool compares all labels and all texts with their values."""
        alert = next(each for each in ALERTS if each.name == self.alert)
        expected = [self._expected(alert)] if self.firing else []
        return {
            "name": f"{self.alert} {'fires' if self.firing else 'is silent'}",
            **_series(self.series, self.every),
            "alert_rule_test": [{"eval_time": self.at, "alertname": self.alert, "exp_alerts": expected}],
        }

    def _expected(self, alert: Alert) -> dict[str, Any]:
        annotations = {
            name: _LABEL.sub(lambda found: self.labels.get(found[1], ""), _VALUE.sub(self.value, filled(text)))
            for name, text in alert.annotations.items()
        }
        return {"exp_labels": {"severity": alert.severity, **self.labels}, "exp_annotations": annotations}


@dataclass(frozen=True, slots=True)
class RecordingCase:
    """A recorded series, and its expected value."""

    name: str
    series: Series
    value: float
    labels: str = 'namespace="voice"'
    at: str = "20m"
    every: str = "30s"

    @property
    def rule(self) -> str:
        """Return the name of the rule."""
        return self.name

    def wire(self) -> dict[str, Any]:
        """Return the case as promtool reads it."""
        sample = {"labels": f"{self.name}{{{self.labels}}}", "value": self.value}
        return {
            "name": self.name,
            **_series(self.series, self.every),
            "promql_expr_test": [{"expr": self.name, "eval_time": self.at, "exp_samples": [sample]}],
        }


def _series(series: Series, every: str) -> dict[str, Any]:
    return {
        "interval": every,
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
    }


def _of(name: str, **labels: str) -> str:
    matchers = ", ".join(f'{label}="{value}"' for label, value in {"namespace": "voice", **labels}.items())
    return f"avr_sts_{name}{{{matchers}}}"


def _rejected(reason: str) -> str:
    return _of("calls_total", outcome="rejected", reason=reason)


def _ticks(process: str) -> str:
    return _of("event_loop_lag_seconds_count", process=process, pod=process)


def _slow(histogram: str, below: str, above: str, **labels: str) -> Series:
    """Return a histogram with all observations between these two bounds."""
    return {
        _of(f"{histogram}_bucket", le=below, **labels): "0x200",
        _of(f"{histogram}_bucket", le=above, **labels): "0+10x200",
        _of(f"{histogram}_bucket", le="+Inf", **labels): "0+10x200",
    }


_TEN_CALLS: Final = {_of("calls_active", pod="w0"): "4x200", _of("calls_active", pod="w1"): "6x200"}
_TICKS: Final = {_of("event_loop_lag_seconds_count", process="worker", pod="w0"): "0+30x200"}
_LOADED: Final = {
    _of("calls_active", pod="w0"): "180x60",
    _of("calls_active", pod="w1"): "160x60",
    _of("calls_capacity", pod="w0"): "200x60",
    _of("calls_capacity", pod="w1"): "200x60",
}
_TENANTS_KEY: Final = {_of("upstream_errors_total", code="invalid_api_key", key="call"): "0+1x60"}
_CODE: Final = {"namespace": "voice", "code": "insufficient_quota"}
_TOOL: Final = {"namespace": "voice", "tool": "find"}
_MODEL: Final = {"namespace": "voice", "model": "new"}
_TOKENS: Final = {"direction": "input", "modality": "audio", "cached": "false"}

_ALIVE: Final = {_of("redis_up", pod="d0"): "1x1300", _of("calls_capacity", pod="w0"): "9x1300"}
_STAGING: Final = {
    _of("redis_up", namespace="staging"): "1x1300",
    _of("calls_capacity", namespace="staging"): "9x1300",
}
_GOOD: Final = _of("calls_total", outcome="completed", reason="caller_hung_up")
_TENANTS_REFUSED: Final = _of("upstream_errors_total", code="invalid_api_key", key="call")
_BAD: Final = _of("calls_total", outcome="failed", reason="upstream")


def _each(*, every: int, times: int) -> str:
    """Return a counter that grows by 1 with each `every`th sample, beginning with 0."""
    return " ".join(f"{number}x{every - 1}" for number in range(times))


ALERT_CASES: Final = (
    # Production vanishes, while staging lives.
    AlertCase("AvrStsNoDispatcher", {_of("redis_up"): "1x60 stale", **_STAGING}, "45m"),
    AlertCase("AvrStsNoDispatcher", {_of("redis_up"): "1x60 _x20 1x60", **_STAGING}, "45m", firing=False),
    # It is missed for six hours: an installation that was removed on purpose is forgotten then.
    AlertCase("AvrStsNoDispatcher", {_of("redis_up"): "1x15 stale", **_STAGING}, "6h25m", every="2m"),
    AlertCase(
        "AvrStsNoDispatcher", {_of("redis_up"): "1x15 stale", **_STAGING}, "6h35m", every="2m", firing=False
    ),
    # The last installation is missed with its namespace, and then without.
    AlertCase("AvrStsNoDispatcher", {_of("redis_up"): "1x60 stale"}, "45m"),
    AlertCase("AvrStsNoDispatcher", {_of("redis_up"): "1x15 stale"}, "6h35m", labels={}, every="2m"),
    AlertCase("AvrStsNoDispatcher", {}, "5m", labels={}),
    AlertCase("AvrStsNoDispatcher", {}, "1m", firing=False),
    AlertCase("AvrStsNoDispatcher", {_of("redis_up"): "0x20"}, "5m", firing=False),
    # Of two releases in one namespace, one vanishes.
    AlertCase(
        "AvrStsNoDispatcher",
        {_of("redis_up", **{RELEASE: "calls"}): "1x60 stale", _of("redis_up", **{RELEASE: "next"}): "1x200"},
        "45m",
        labels={"namespace": "voice", RELEASE: "calls"},
    ),
    AlertCase("AvrStsNoWorkers", {_of("redis_up"): "1x20"}, "5m"),
    # Workers of another namespace do not count.
    AlertCase(
        "AvrStsNoWorkers", {_of("redis_up"): "1x20", _of("calls_capacity", namespace="other"): "9x20"}, "5m"
    ),
    AlertCase("AvrStsNoWorkers", {_of("redis_up"): "1x20", **_LOADED}, "5m", firing=False),
    # Workers vanish together with the dispatchers.
    AlertCase(
        "AvrStsNoWorkers",
        {_of("redis_up"): "1x60 stale", _of("calls_capacity"): "9x60 stale", **_STAGING},
        "45m",
    ),
    # A call every five minutes, and each fails.
    AlertCase("AvrStsEveryCallFails", {_GOOD: "7x200", _BAD: _each(every=10, times=14)}, "40m", value="6"),
    # A call every hour, and each fails since the service started.
    AlertCase(
        "AvrStsEveryCallFails", {_GOOD: "0x200", _BAD: _each(every=30, times=6)}, "4h", value="4", every="2m"
    ),
    # The first failures behind a good call do not yet fire, and neither do two failed calls.
    AlertCase(
        "AvrStsEveryCallFails",
        {_GOOD: _each(every=10, times=3) + " 2x200", _BAD: "0x29 " + _each(every=10, times=14)},
        "30m",
        firing=False,
    ),
    AlertCase("AvrStsEveryCallFails", {_GOOD: "0x200", _BAD: "0x9 1x9 2x180"}, "40m", firing=False),
    # Callers that hang up, or a broken network before the service, are no fault of the service.
    AlertCase(
        "AvrStsEveryCallFails",
        {_GOOD: "0x200", _of("calls_total", outcome="failed", reason="caller_lost"): "0+1x200"},
        "40m",
        firing=False,
    ),
    # A quarter of the calls fails after a good hour.
    AlertCase(
        "AvrStsCallsFail",
        {_GOOD: "0+4x120 480+3x200", _BAD: "0x120 0+1x200"},
        "110m",
        value="19.63%",
    ),
    # 8% fail for hours.
    AlertCase("AvrStsCallsFail", {_GOOD: "0+92x100", _BAD: "0+8x100"}, "5h", value="8%", every="5m"),
    AlertCase("AvrStsCallsFail", {_GOOD: "0+97x120", _BAD: "0+3x120"}, "9h", firing=False, every="5m"),
    # It ends soon after the fault.
    AlertCase("AvrStsCallsFail", {_GOOD: "0x120 0+4x200", _BAD: "0+4x120 480x200"}, "100m", firing=False),
    # A single failed call is not a trend, and four of five calls in an hour are too few for a page.
    AlertCase("AvrStsCallsFail", {_GOOD: "5x60", _BAD: "0x30 1x30"}, "20m", firing=False),
    AlertCase(
        "AvrStsCallsFail", {_GOOD: "0 1x200", _BAD: _each(every=20, times=5) + " 4x100"}, "52m", firing=False
    ),
    # A third of the calls fails by a tenant's bad key, for hours; alone in the night, all calls do.
    *(
        AlertCase(
            alert,
            {_GOOD: "0+100x100", _BAD: "0+50x100", _TENANTS_REFUSED: "0+50x100"},
            "5h",
            firing=False,
            every="5m",
        )
        for alert in ("AvrStsCallsFail", "AvrStsCallsFailSlowly")
    ),
    AlertCase(
        "AvrStsEveryCallFails",
        {_GOOD: "7x200", _BAD: _each(every=10, times=14), _TENANTS_REFUSED: _each(every=10, times=14)},
        "40m",
        firing=False,
    ),
    # Such a key hides no fault of ours.
    AlertCase(
        "AvrStsCallsFail",
        {_GOOD: "0+80x100", _BAD: "0+20x100", _TENANTS_REFUSED: "0+5x100"},
        "5h",
        value="15%",
        every="5m",
    ),
    # 3% fail for nine hours, after nine good ones, and without a past.
    AlertCase(
        "AvrStsCallsFailSlowly",
        {_GOOD: "0+100x108 10800+97x120", _BAD: "0x108 0+3x120"},
        "18h",
        value="3%",
        every="5m",
    ),
    AlertCase("AvrStsCallsFailSlowly", {_GOOD: "0+97x120", _BAD: "0+3x120"}, "9h", value="3%", every="5m"),
    # 1.5% fail for more than a day.
    AlertCase("AvrStsCallsFailSlowly", {_GOOD: "0+985x400", _BAD: "0+15x400"}, "30h", value="1.5%", every="5m"),
    AlertCase("AvrStsCallsFailSlowly", {_GOOD: "0+992x200", _BAD: "0+8x200"}, "8h", firing=False, every="5m"),
    AlertCase(
        "AvrStsCallersLost",
        {_GOOD: "0+4x200", _of("calls_total", outcome="failed", reason="caller_lost"): "0+1x200"},
        "80m",
        value="20%",
        labels={"namespace": "voice", "reason": "caller_lost"},
    ),
    AlertCase(
        "AvrStsCallersLost",
        {_GOOD: "0+40x200", _of("calls_total", outcome="failed", reason="caller_lost"): "0+1x200"},
        "80m",
        firing=False,
    ),
    AlertCase(
        "AvrStsConnectionsRefused",
        {_of("connections_refused_total", reason="token"): "0+1x100", **_ALIVE},
        "25m",
        value="20",
        labels={"namespace": "voice", "reason": "token"},
    ),
    AlertCase(
        "AvrStsConnectionsRefused",
        {_of("connections_refused_total", reason="token"): "0x20 3x80", **_ALIVE},
        "25m",
        firing=False,
    ),
    # AVR Core calls every five minutes with a wrong token, and no call comes through.
    AlertCase(
        "AvrStsConnectionsRefused",
        {_of("connections_refused_total", reason="token"): _each(every=10, times=20), _GOOD: "7x300"},
        "90m",
        value="12",
        labels={"namespace": "voice", "reason": "token"},
    ),
    # A scanner comes every five minutes, and calls come through.
    AlertCase(
        "AvrStsConnectionsRefused",
        {
            _of("connections_refused_total", reason="token"): _each(every=10, times=20),
            _GOOD: _each(every=20, times=10),
        },
        "90m",
        firing=False,
    ),
    AlertCase("AvrStsNearCapacity", _LOADED, "10m", value="85%"),
    AlertCase("AvrStsNearCapacity", _LOADED, "4m", firing=False),
    AlertCase("AvrStsNearCapacity", {**_LOADED, _of("calls_active", pod="w1"): "100x60"}, "10m", firing=False),
    AlertCase("AvrStsCallsRejected", {_rejected("no_capacity"): "0+1x20"}, "5m", value="10"),
    AlertCase("AvrStsCallsRejected", {_rejected("no_worker"): "0+1x20"}, "5m", value="10"),
    AlertCase("AvrStsCallsRejected", {_rejected("no_capacity"): "7x20"}, "5m", firing=False),
    # A connection without `init` is no caller.
    AlertCase("AvrStsCallsRejected", {_rejected("protocol"): "0+1x20"}, "5m", firing=False),
    AlertCase("AvrStsCallsRejected", {_GOOD: "0+1x20"}, "5m", firing=False),
    AlertCase("AvrStsFallbackFails", {_of("fallbacks_total", outcome="failed"): "0x10 1x40"}, "10m", value="1"),
    AlertCase("AvrStsFallbackFails", {_of("fallbacks_total", outcome="ended"): "0+1x40"}, "10m", firing=False),
    AlertCase("AvrStsGreetingSlow", _slow("greeting_latency_seconds", "4", "6"), "25m", value="5.9s"),
    AlertCase("AvrStsGreetingSlow", _slow("greeting_latency_seconds", "1", "1.5"), "25m", firing=False),
    AlertCase("AvrStsTurnsSlow", _slow("turn_latency_seconds", "3", "4"), "25m", value="3.95s"),
    AlertCase("AvrStsTurnsSlow", _slow("turn_latency_seconds", "0.8", "1"), "25m", firing=False),
    AlertCase(
        "AvrStsUpstreamRefuses",
        {_of("upstream_errors_total", code="insufficient_quota", key="ours"): "0+1x20"},
        "5m",
        labels=_CODE,
    ),
    AlertCase(
        "AvrStsUpstreamRefuses",
        {_of("upstream_errors_total", code="rate_limit_exceeded", key="ours"): "0+1x20"},
        "5m",
        firing=False,
    ),
    # The last attempt was hours ago: few calls come.
    AlertCase(
        "AvrStsUpstreamRefuses",
        {
            _of("upstream_errors_total", code="invalid_api_key", key="ours"): "0x5 3x200",
            _of("upstream_refused", pod="w0"): "0x5 1x200",
            _of("upstream_refused", pod="w1"): "0x200",
        },
        "60m",
        labels={"namespace": "voice", "code": "last_attempt"},
    ),
    AlertCase("AvrStsUpstreamRefuses", {_of("upstream_refused"): "1x20 0x100"}, "30m", firing=False),
    # A tenant's bad key is the tenant's fault.
    AlertCase("AvrStsUpstreamRefuses", _TENANTS_KEY, "10m", firing=False),
    AlertCase("AvrStsUpstreamErrors", {**_TENANTS_KEY, **_TEN_CALLS}, "20m", firing=False),
    AlertCase(
        "AvrStsTenantKeyRefused", _TENANTS_KEY, "10m", labels={"namespace": "voice", "code": "invalid_api_key"}
    ),
    AlertCase(
        "AvrStsTenantKeyRefused",
        {_of("upstream_errors_total", code="invalid_api_key", key="ours"): "0+1x60"},
        "10m",
        firing=False,
    ),
    AlertCase(
        "AvrStsRateLimitNear",
        {
            _of("upstream_rate_limit_remaining", limit="tokens", pod="w0"): "0.04x60",
            _of("upstream_rate_limit_remaining", limit="tokens", pod="w1"): "0.5x60",
            **_TEN_CALLS,
        },
        "10m",
        value="4%",
        labels={"namespace": "voice", "limit": "tokens"},
    ),
    # The worker has no calls, so its figure is old.
    AlertCase(
        "AvrStsRateLimitNear",
        {
            _of("upstream_rate_limit_remaining", limit="tokens", pod="w0"): "0.04x60",
            _of("calls_active", pod="w0"): "0x60",
        },
        "10m",
        firing=False,
    ),
    AlertCase(
        "AvrStsUpstreamErrors",
        {_of("upstream_errors_total", code="server_error", key="ours"): "0+2x60", **_TEN_CALLS},
        "20m",
        value="0.4",
    ),
    AlertCase(
        "AvrStsUpstreamErrors",
        {_of("upstream_errors_total", code="server_error", key="ours"): "0+0.1x60", **_TEN_CALLS},
        "20m",
        firing=False,
    ),
    AlertCase("AvrStsUpstreamSlow", _slow("upstream_connect_seconds", "3", "5"), "25m", value="4.9s"),
    AlertCase("AvrStsUpstreamSlow", _slow("upstream_connect_seconds", "0.2", "0.3"), "25m", firing=False),
    AlertCase(
        "AvrStsUpstreamDrops",
        {_of("upstream_reconnects_total", reason="dropped"): "0+1x60", **_TEN_CALLS},
        "20m",
        value="12.0",
    ),
    AlertCase(
        "AvrStsUpstreamDrops",
        {_of("upstream_reconnects_total", reason="rollover"): "0+1x60", **_TEN_CALLS},
        "20m",
        firing=False,
    ),
    AlertCase("AvrStsWorkerLost", {_of("repins_total", reason="worker_lost"): "0+1x30"}, "10m", value="20"),
    AlertCase("AvrStsWorkerLost", {_of("repins_total", reason="drain"): "0+1x30"}, "10m", firing=False),
    # Restarts counted by serve, and by a cluster.
    AlertCase("AvrStsWorkersRestart", {_of("worker_restarts_total"): "0 1 2 3 4x60", **_TICKS}, "30m", value="4"),
    AlertCase(
        "AvrStsWorkersRestart",
        {
            _of("event_loop_lag_seconds_count", process="worker", pod="w0"): "0+30x5 0+30x5 0+30x5 0+30x60",
            _of("event_loop_lag_seconds_count", process="dispatcher", pod="d0"): "0+30x200",
        },
        "20m",
        value="3",
    ),
    AlertCase("AvrStsWorkersRestart", {_of("worker_restarts_total"): "0 1x60", **_TICKS}, "30m", firing=False),
    AlertCase(
        "AvrStsRecoverySlow", _slow("recovery_seconds", "3", "5", reason="worker_lost"), "20m", value="4.9s"
    ),
    AlertCase(
        "AvrStsRecoverySlow",
        _slow("recovery_seconds", "0.3", "0.5", reason="worker_lost"),
        "20m",
        firing=False,
    ),
    AlertCase(
        "AvrStsRecordingIncomplete",
        {_of("recording_dropped_seconds_total", reason="disk"): "0x5 1+30x15"},
        "10m",
        value="421",
        labels={"namespace": "voice", "reason": "disk"},
    ),
    AlertCase(
        "AvrStsRecordingIncomplete",
        {_of("recording_dropped_seconds_total", reason="disk"): "7x20"},
        "10m",
        labels={"namespace": "voice", "reason": "disk"},
        firing=False,
    ),
    AlertCase("AvrStsRecordingStopped", {_of("recording_stopped"): "1x20"}, "5m", value="1"),
    AlertCase("AvrStsRecordingStopped", {_of("recording_stopped"): "0x20"}, "5m", firing=False),
    AlertCase(
        "AvrStsDispatchersRestart",
        {_of("dispatcher_restarts_total"): "0 1 2x60", _ticks("dispatcher"): "0+30x200"},
        "30m",
        value="2",
    ),
    AlertCase("AvrStsDispatchersRestart", {_ticks("dispatcher"): "0+30x5 0+30x5 0+30x60"}, "20m", value="2"),
    AlertCase("AvrStsDispatchersRestart", {_ticks("worker"): "0+30x5 0+30x5 0+30x60"}, "20m", firing=False),
    AlertCase("AvrStsRedisRestarts", {_of("redis_restarts_total"): "0 1 2x60"}, "20m", value="2"),
    AlertCase("AvrStsRedisRestarts", {_of("redis_restarts_total"): "0 1x60"}, "20m", firing=False),
    AlertCase(
        "AvrStsWorkerRedisDown",
        {_of("worker_redis_up", pod="w0"): "1x20", _of("worker_redis_up", pod="w1"): "1x5 0x15"},
        "5m",
        value="1",
    ),
    AlertCase("AvrStsWorkerRedisDown", {_of("worker_redis_up"): "1x5 0 1x15"}, "5m", firing=False),
    AlertCase(
        "AvrStsFilesNearLimit",
        {
            'process_open_fds{namespace="voice", process="worker"}': "900x40",
            'process_max_fds{namespace="voice", process="worker"}': "1000x40",
        },
        "15m",
        value="90%",
        labels={"namespace": "voice", "process": "worker"},
    ),
    # Processes of others have no such label.
    AlertCase(
        "AvrStsFilesNearLimit",
        {'process_open_fds{job="node"}': "900x40", 'process_max_fds{job="node"}': "1000x40"},
        "15m",
        firing=False,
    ),
    AlertCase(
        "AvrStsReleasesDiffer",
        {_of("build_info", version=version, pod=version): "1x500" for version in ("0.2.0", "0.3.0")},
        "3h30m",
        value="2",
        every="2m",
    ),
    # Old dispatchers wait for their calls, for an hour.
    AlertCase(
        "AvrStsReleasesDiffer",
        {
            _of("build_info", version="0.2.0", pod="d0"): "1x30 stale",
            _of("build_info", version="0.3.0", pod="d1"): "1x500",
            _of("build_info", version="0.3.0", pod="d2"): "1x500",
        },
        "3h30m",
        firing=False,
        every="2m",
    ),
    AlertCase(
        "AvrStsTaskFails",
        {_of("task_failures_total", process="worker", task="publish"): "0+0.25x200"},
        "60m",
        labels={"namespace": "voice", "process": "worker", "task": "publish"},
    ),
    AlertCase(
        "AvrStsTaskFails",
        {_of("task_failures_total", process="worker", task="publish"): "0x20 2x180"},
        "60m",
        firing=False,
    ),
    AlertCase(
        "AvrStsIllegalTransitions", {_of("illegal_transitions_total", process="worker"): "0x20 4x180"}, "60m"
    ),
    AlertCase(
        "AvrStsIllegalTransitions",
        {_of("illegal_transitions_total", process="worker"): "0x20 1x180"},
        "60m",
        firing=False,
    ),
    AlertCase(
        "AvrStsCallerAudioGaps",
        {_of("caller_audio_gap_seconds_total"): "0+15x60", **_TEN_CALLS},
        "25m",
        value="5%",
    ),
    AlertCase(
        "AvrStsCallerAudioGaps",
        {_of("caller_audio_gap_seconds_total"): "0+0.15x60", **_TEN_CALLS},
        "25m",
        firing=False,
    ),
    AlertCase("AvrStsRedisDown", {_of("redis_up", pod="d0"): "1x20", _of("redis_up", pod="d1"): "1x5 0x15"}, "5m"),
    AlertCase("AvrStsRedisDown", {_of("redis_up", pod="d0"): "1x5 0 1x15"}, "5m", firing=False),
    AlertCase(
        "AvrStsRecordsWait",
        {
            _of("call_records_oldest_seconds", pod="d0"): "0x40",
            _of("call_records_oldest_seconds", pod="d1"): "1000x40",
        },
        "10m",
        value="16m 40s",
    ),
    AlertCase(
        "AvrStsRecordsWait", {_of("call_records_oldest_seconds", pod="d0"): "0x4 1000x2 0x30"}, "10m", firing=False
    ),
    AlertCase("AvrStsRecordsLost", {_of("call_records_total", outcome="dropped"): "0x5 5x40"}, "10m"),
    AlertCase(
        "AvrStsRecordsLost",
        {
            _of("call_records_total", outcome="delivered"): "0+9x40",
            _of("call_records_total", outcome="dead"): "3x40",
        },
        "10m",
        firing=False,
    ),
    AlertCase(
        "AvrStsEventLoopLate",
        _slow("event_loop_lag_seconds", "0.25", "0.5", process="worker"),
        "15m",
        value="497.5ms",
        labels={"namespace": "voice", "process": "worker"},
    ),
    AlertCase(
        "AvrStsEventLoopLate",
        _slow("event_loop_lag_seconds", "0.001", "0.0025", process="worker"),
        "15m",
        firing=False,
    ),
    AlertCase(
        "AvrStsAudioDropped",
        {_of("audio_dropped_seconds_total", direction="in"): "0+6x60", **_TEN_CALLS},
        "15m",
        value="2%",
        labels={"namespace": "voice", "direction": "in"},
    ),
    AlertCase(
        "AvrStsAudioDropped",
        {_of("audio_dropped_seconds_total", direction="in"): "0+0.06x60", **_TEN_CALLS},
        "15m",
        firing=False,
    ),
    AlertCase(
        "AvrStsToolFails",
        {
            _of("tool_calls_total", tool="find", outcome="completed"): "0+2x60",
            _of("tool_calls_total", tool="find", outcome="timed_out"): "0+1x60",
            _of("tool_calls_total", tool="find", outcome="failed"): "0+1x60",
            _of("tool_calls_total", tool="book", outcome="completed"): "0+2x60",
            _of("tool_calls_total", tool="book", outcome="failed"): "0x60",
        },
        "25m",
        value="50%",
        labels=_TOOL,
    ),
    AlertCase(
        "AvrStsToolFails",
        {
            _of("tool_calls_total", tool="find", outcome="completed"): "1x60",
            _of("tool_calls_total", tool="find", outcome="failed"): "0x40 1x20",
        },
        "25m",
        firing=False,
    ),
    # A tool that is called every 20 minutes, and always fails.
    AlertCase(
        "AvrStsToolFails",
        {
            _of("tool_calls_total", tool="find", outcome="completed"): "7x200",
            _of("tool_calls_total", tool="find", outcome="failed"): _each(every=10, times=9),
        },
        "2h",
        value="100%",
        labels=_TOOL,
        every="2m",
    ),
    AlertCase("AvrStsCostHigh", {_of("cost_usd_total", model="m"): "0+5x200", **_TEN_CALLS}, "70m", value="1.00"),
    AlertCase(
        "AvrStsCostHigh", {_of("cost_usd_total", model="m"): "0+0.5x200", **_TEN_CALLS}, "70m", firing=False
    ),
    AlertCase(
        "AvrStsCostUnknown",
        {
            _of("tokens_total", model="new", **_TOKENS): "0+10x200",
            _of("tokens_total", model="old", **_TOKENS): "0+10x200",
            _of("cost_usd_total", model="old"): "0+0.1x200",
        },
        "70m",
        labels=_MODEL,
    ),
    # The value is expected and not used: no cost is no fault.
    AlertCase(
        "AvrStsCostUnknown",
        {_of("tokens_total", model="new", **_TOKENS): "0x200", _of("cost_usd_total", model="new"): "0x200"},
        "70m",
        firing=False,
    ),
)

_OUTCOMES: Final = {_GOOD: "0+6x900", _BAD: "0+2x900"}

RECORDING_CASES: Final = (
    RecordingCase("namespace:avr_sts_calls_active:sum", _LOADED, 340),
    RecordingCase("namespace:avr_sts_calls_capacity:sum", _LOADED, 400),
    RecordingCase("namespace:avr_sts_calls_load:ratio", _LOADED, 0.85),
    RecordingCase(
        "namespace_outcome:avr_sts_calls:rate5m",
        {_of("calls_total", outcome="completed"): "0+6x60"},
        0.2,
        'namespace="voice", outcome="completed"',
    ),
    RecordingCase("namespace:avr_sts_dispatchers:count", _ALIVE, 1),
    RecordingCase("namespace:avr_sts_workers:count", _ALIVE, 1),
    RecordingCase("namespace:avr_sts_workers:count", {_of("redis_up"): "1x60"}, 0),
    RecordingCase("namespace:avr_sts_calls:rate5m", _OUTCOMES, 8 / 30),
    RecordingCase("namespace:avr_sts_calls_failed:rate5m", _OUTCOMES, 2 / 30),
    RecordingCase("namespace:avr_sts_calls_failed:rate5m", {_GOOD: "0+6x60"}, 0),
    *(
        RecordingCase(f"namespace:avr_sts_calls_failed:ratio_rate{window}", _OUTCOMES, 0.25, at=at, every=every)
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
        {_GOOD: "0+1990x900", _BAD: "0+10x900"},
        0.5000000000000004,
        at="4h",
        every="5m",
    ),
    RecordingCase(
        "namespace:avr_sts_greeting_latency_seconds:p95_10m", _slow("greeting_latency_seconds", "4", "6"), 5.9
    ),
    RecordingCase("namespace:avr_sts_turn_latency_seconds:p50_10m", _slow("turn_latency_seconds", "3", "4"), 3.5),
    RecordingCase("namespace:avr_sts_turn_latency_seconds:p95_10m", _slow("turn_latency_seconds", "3", "4"), 3.95),
    RecordingCase(
        "namespace:avr_sts_upstream_connect_seconds:p95_10m", _slow("upstream_connect_seconds", "3", "5"), 4.9
    ),
    RecordingCase(
        "namespace:avr_sts_recovery_seconds:p95_15m",
        _slow("recovery_seconds", "3", "5", reason="worker_lost"),
        4.9,
    ),
    RecordingCase(
        "namespace_process:avr_sts_event_loop_lag_seconds:p99_5m",
        _slow("event_loop_lag_seconds", "0.25", "0.5", process="worker"),
        0.4975,
        'namespace="voice", process="worker"',
    ),
    RecordingCase(
        "namespace:avr_sts_cost_usd:per_hour_rate1h",
        {_of("cost_usd_total", model="m"): "0+0.25x200"},
        30,
        at="61m",
    ),
    RecordingCase(
        "namespace:avr_sts_cost_usd:per_call_minute_rate1h",
        {_of("cost_usd_total", model="m"): "0+2.5x200", **_TEN_CALLS},
        0.5,
        at="61m",
    ),
    RecordingCase(
        "namespace:avr_sts_input_tokens_cached:ratio_rate1h",
        {
            _of("tokens_total", direction="input", cached="true"): "0+30x60",
            _of("tokens_total", direction="input", cached="false"): "0+10x60",
            _of("tokens_total", direction="output", cached="false"): "0+90x60",
        },
        0.75,
    ),
)

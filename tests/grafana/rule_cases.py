"""Cases for promtool: series, and the results of the rules. Samples are 30 s apart."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

from grafana.alerting import Alert

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
    """

    alert: str
    series: Series
    at: str
    firing: bool = True
    value: str = ""
    labels: Series = field(default_factory=lambda: {"namespace": "voice"})

    def wire(self, alert: Alert) -> dict[str, Any]:
        """Return the case as promtool reads it; promtool compares all labels and all texts with their values."""
        expected = [self._expected(alert)] if self.firing else []
        return {
            "name": f"{self.alert} {'fires' if self.firing else 'is silent'}",
            **_series(self.series),
            "alert_rule_test": [{"eval_time": self.at, "alertname": self.alert, "exp_alerts": expected}],
        }

    def _expected(self, alert: Alert) -> dict[str, Any]:
        annotations = {
            name: _LABEL.sub(lambda found: self.labels[found[1]], _VALUE.sub(self.value, text))
            for name, text in alert.wire()["annotations"].items()
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

    def wire(self) -> dict[str, Any]:
        """Return the case as promtool reads it."""
        sample = {"labels": f"{self.name}{{{self.labels}}}", "value": self.value}
        return {
            "name": self.name,
            **_series(self.series),
            "promql_expr_test": [{"expr": self.name, "eval_time": self.at, "exp_samples": [sample]}],
        }


def _series(series: Series) -> dict[str, Any]:
    return {
        "interval": "30s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
    }


def _of(name: str, **labels: str) -> str:
    matchers = ", ".join(f'{label}="{value}"' for label, value in {"namespace": "voice", **labels}.items())
    return f"avr_sts_{name}{{{matchers}}}"


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
_CODE: Final = {"namespace": "voice", "code": "insufficient_quota"}
_TOOL: Final = {"namespace": "voice", "tool": "find"}
_MODEL: Final = {"namespace": "voice", "model": "new"}
_TOKENS: Final = {"direction": "input", "modality": "audio", "cached": "false"}

ALERT_CASES: Final = (
    AlertCase("AvrStsNoDispatcher", {}, "5m", labels={}),
    AlertCase("AvrStsNoDispatcher", {}, "1m", firing=False),
    AlertCase("AvrStsNoDispatcher", {_of("redis_up"): "0x20"}, "5m", firing=False),
    AlertCase("AvrStsNoWorkers", {_of("redis_up"): "1x20"}, "5m"),
    # Workers of another namespace do not count.
    AlertCase(
        "AvrStsNoWorkers", {_of("redis_up"): "1x20", _of("calls_capacity", namespace="other"): "9x20"}, "5m"
    ),
    AlertCase("AvrStsNoWorkers", {_of("redis_up"): "1x20", **_LOADED}, "5m", firing=False),
    AlertCase("AvrStsNearCapacity", _LOADED, "10m", value="85%"),
    AlertCase("AvrStsNearCapacity", _LOADED, "4m", firing=False),
    AlertCase("AvrStsNearCapacity", {**_LOADED, _of("calls_active", pod="w1"): "100x60"}, "10m", firing=False),
    AlertCase("AvrStsCallsRejected", {_of("calls_total", outcome="rejected"): "0+1x20"}, "5m", value="10"),
    AlertCase("AvrStsCallsRejected", {_of("calls_total", outcome="rejected"): "7x20"}, "5m", firing=False),
    AlertCase("AvrStsCallsRejected", {_of("calls_total", outcome="completed"): "0+1x20"}, "5m", firing=False),
    AlertCase(
        "AvrStsCallsFail",
        {_of("calls_total", outcome="completed"): "0+9x60", _of("calls_total", outcome="failed"): "0+1x60"},
        "20m",
        value="10%",
    ),
    # A single failed call is not a trend.
    AlertCase(
        "AvrStsCallsFail",
        {_of("calls_total", outcome="completed"): "5x60", _of("calls_total", outcome="failed"): "0x30 1x30"},
        "20m",
        firing=False,
    ),
    AlertCase("AvrStsGreetingSlow", _slow("greeting_latency_seconds", "4", "6"), "25m", value="5.9s"),
    AlertCase("AvrStsGreetingSlow", _slow("greeting_latency_seconds", "1", "1.5"), "25m", firing=False),
    AlertCase("AvrStsTurnsSlow", _slow("turn_latency_seconds", "3", "4"), "25m", value="3.95s"),
    AlertCase("AvrStsTurnsSlow", _slow("turn_latency_seconds", "0.8", "1"), "25m", firing=False),
    AlertCase(
        "AvrStsUpstreamRefuses",
        {_of("upstream_errors_total", code="insufficient_quota"): "0+1x20"},
        "5m",
        labels=_CODE,
    ),
    AlertCase(
        "AvrStsUpstreamRefuses",
        {_of("upstream_errors_total", code="rate_limit_exceeded"): "0+1x20"},
        "5m",
        firing=False,
    ),
    AlertCase(
        "AvrStsUpstreamErrors",
        {_of("upstream_errors_total", code="server_error"): "0+2x60", **_TEN_CALLS},
        "20m",
        value="0.4",
    ),
    AlertCase(
        "AvrStsUpstreamErrors",
        {_of("upstream_errors_total", code="server_error"): "0+0.1x60", **_TEN_CALLS},
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
        "AvrStsRecordingStopped",
        {_of("recording_dropped_seconds_total", reason="disk"): "0x5 1+30x15"},
        "10m",
        value="421",
        labels={"namespace": "voice", "reason": "disk"},
    ),
    AlertCase(
        "AvrStsRecordingStopped",
        {_of("recording_dropped_seconds_total", reason="disk"): "7x20"},
        "10m",
        labels={"namespace": "voice", "reason": "disk"},
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

_OUTCOMES: Final = {
    _of("calls_total", outcome="completed"): "0+6x60",
    _of("calls_total", outcome="failed"): "0+2x60",
}

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
    RecordingCase("namespace:avr_sts_calls_failed:ratio_rate10m", _OUTCOMES, 0.25),
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

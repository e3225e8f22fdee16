"""A case for promtool: series, and the result of a rule; and series that several cases use."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

from grafana.alerting import ALERTS
from grafana.rule import Alert, filled

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


def of(name: str, **labels: str) -> str:
    """Return a series of the namespace `voice`, or of another one; its name is given without prefix."""
    matchers = ", ".join(f'{label}="{value}"' for label, value in {"namespace": "voice", **labels}.items())
    return f"avr_sts_{name}{{{matchers}}}"


def rejected(reason: str) -> str:
    """Return the counter of rejected calls."""
    return of("calls_total", outcome="rejected", reason=reason)


def ticks(process: str) -> str:
    """Return a counter of a process, which grows by 30 in 30 s."""
    return of("event_loop_lag_seconds_count", process=process, pod=process)


def slow(histogram: str, below: str, above: str, **labels: str) -> Series:
    """Return a histogram with all observations between these two bounds."""
    return {
        of(f"{histogram}_bucket", le=below, **labels): "0x200",
        of(f"{histogram}_bucket", le=above, **labels): "0+10x200",
        of(f"{histogram}_bucket", le="+Inf", **labels): "0+10x200",
    }


TEN_CALLS: Final = {of("calls_active", pod="w0"): "4x200", of("calls_active", pod="w1"): "6x200"}
LOADED: Final = {
    of("calls_active", pod="w0"): "180x60",
    of("calls_active", pod="w1"): "160x60",
    of("calls_capacity", pod="w0"): "200x60",
    of("calls_capacity", pod="w1"): "200x60",
}
TOKENS: Final = {"direction": "input", "modality": "audio", "cached": "false"}

ALIVE: Final = {of("redis_up", pod="d0"): "1x1300", of("calls_capacity", pod="w0"): "9x1300"}
GOOD: Final = of("calls_total", outcome="completed", reason="caller_hung_up")
TENANTS_REFUSED: Final = of("upstream_errors_total", code="invalid_api_key", key="call")
BAD: Final = of("calls_total", outcome="failed", reason="upstream")


def steps(*, every: int, times: int) -> str:
    """Return a counter that grows by 1 with each `every`th sample, beginning with 0."""
    return " ".join(f"{number}x{every - 1}" for number in range(times))

"""All rules for Prometheus, as groups, and the alerts that make others needless."""

from __future__ import annotations

from typing import Any, Final

from grafana import recordings
from grafana.alerts import afterwards, calls, processes, upstream
from grafana.rule import RUNBOOK_URL, Alert, Group, Recording, filled

RECORDINGS: Final[tuple[Recording, ...]] = (*recordings.RECORDINGS, *recordings.OBJECTIVE)
ALERTS: Final[tuple[Alert, ...]] = (*calls.ALERTS, *upstream.ALERTS, *processes.ALERTS, *afterwards.ALERTS)

FILES: Final[dict[str, tuple[Group, ...]]] = {
    "recording": (
        Group("avr-sts-recording", "30s", recordings.RECORDINGS),
        # Their windows are long, and two minutes are within Prometheus' look-back of five.
        Group("avr-sts-objective", "2m", recordings.OBJECTIVE),
    ),
    "alerts": (Group("avr-sts-alerts", "30s", ALERTS),),
}
"""Groups by the name of their file."""

INHIBITS: Final[dict[str, tuple[str, ...]]] = {
    "AvrStsNoDispatcher": ("AvrStsNoWorkers", "AvrStsEveryCallFails", "AvrStsCallsFail"),
    "AvrStsNoWorkers": (
        "AvrStsCallsRejected",
        "AvrStsEveryCallFails",
        "AvrStsCallsFail",
        "AvrStsWorkersRestart",
        "AvrStsWorkerLost",
    ),
    "AvrStsUpstreamRefuses": ("AvrStsEveryCallFails", "AvrStsCallsFail", "AvrStsUpstreamErrors"),
    "AvrStsEveryCallFails": ("AvrStsCallsFail",),
    "AvrStsCallsFail": ("AvrStsCallsFailSlowly",),
    "AvrStsCallsRejected": ("AvrStsNearCapacity",),
    "AvrStsRedisDown": ("AvrStsWorkerRedisDown", "AvrStsRedisRestarts"),
    "AvrStsUpstreamSlow": ("AvrStsGreetingSlow", "AvrStsRecoverySlow"),
    "AvrStsEventLoopLate": ("AvrStsAudioDropped",),
    "AvrStsRecordingStopped": ("AvrStsRecordingIncomplete",),
}
"""Alerts that are needless while another one fires in the same namespace and release. docs/runbook.md has them as
Alertmanager reads them."""


def document(groups: tuple[Group, ...]) -> dict[str, Any]:
    """Return the content of a rule file, with placeholders."""
    return {"groups": [group.wire() for group in groups]}


def plain(value: Any, runbook: str = RUNBOOK_URL) -> Any:
    """Return a document without placeholders: the defaults are in their places.

    Args:
        value: a document, or a part of one.
        runbook: address of the runbook.
    """
    match value:
        case str():
            return filled(value, runbook)
        case dict():
            return {key: plain(each, runbook) for key, each in value.items()}
        case list():
            return [plain(each, runbook) for each in value]
    return value

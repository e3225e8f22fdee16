"""All cases for promtool, by rule."""

from __future__ import annotations

from typing import Final

from tests.grafana.cases import afterwards, calls, processes, recordings, upstream
from tests.grafana.cases.case import AlertCase, RecordingCase

ALERT_CASES: Final[tuple[AlertCase, ...]] = (
    *calls.ALERT_CASES,
    *upstream.ALERT_CASES,
    *processes.ALERT_CASES,
    *afterwards.ALERT_CASES,
)
RECORDING_CASES: Final[tuple[RecordingCase, ...]] = recordings.RECORDING_CASES

"""Cases of the alerts on tools, cost, call records and recordings."""

from __future__ import annotations

from typing import Final

from tests.grafana.cases.case import TEN_CALLS, TOKENS, AlertCase, of, steps

TOOL: Final = {"namespace": "voice", "tool": "find"}
MODEL: Final = {"namespace": "voice", "model": "new"}

ALERT_CASES: Final = (
    AlertCase(
        "AvrStsRecordingIncomplete",
        {of("recording_dropped_seconds_total", reason="disk"): "0x5 1+30x15"},
        "10m",
        value="421",
        labels={"namespace": "voice", "reason": "disk"},
    ),
    AlertCase(
        "AvrStsRecordingIncomplete",
        {of("recording_dropped_seconds_total", reason="disk"): "7x20"},
        "10m",
        labels={"namespace": "voice", "reason": "disk"},
        firing=False,
    ),
    AlertCase("AvrStsRecordingStopped", {of("recording_stopped"): "1x20"}, "5m", value="1"),
    AlertCase("AvrStsRecordingStopped", {of("recording_stopped"): "0x20"}, "5m", firing=False),
    AlertCase(
        "AvrStsRecordsWait",
        {
            of("call_records_oldest_seconds", pod="d0"): "0x40",
            of("call_records_oldest_seconds", pod="d1"): "1000x40",
        },
        "10m",
        value="16m 40s",
    ),
    AlertCase(
        "AvrStsRecordsWait", {of("call_records_oldest_seconds", pod="d0"): "0x4 1000x2 0x30"}, "10m", firing=False
    ),
    AlertCase("AvrStsRecordsLost", {of("call_records_total", outcome="dropped"): "0x5 5x40"}, "10m"),
    AlertCase(
        "AvrStsRecordsLost",
        {
            of("call_records_total", outcome="delivered"): "0+9x40",
            of("call_records_total", outcome="dead"): "3x40",
        },
        "10m",
        firing=False,
    ),
    AlertCase(
        "AvrStsToolFails",
        {
            of("tool_calls_total", tool="find", outcome="completed"): "0+2x60",
            of("tool_calls_total", tool="find", outcome="timed_out"): "0+1x60",
            of("tool_calls_total", tool="find", outcome="failed"): "0+1x60",
            of("tool_calls_total", tool="book", outcome="completed"): "0+2x60",
            of("tool_calls_total", tool="book", outcome="failed"): "0x60",
        },
        "25m",
        value="50%",
        labels=TOOL,
    ),
    AlertCase(
        "AvrStsToolFails",
        {
            of("tool_calls_total", tool="find", outcome="completed"): "1x60",
            of("tool_calls_total", tool="find", outcome="failed"): "0x40 1x20",
        },
        "25m",
        firing=False,
    ),
    # A tool that is called every 20 minutes, and always fails.
    AlertCase(
        "AvrStsToolFails",
        {
            of("tool_calls_total", tool="find", outcome="completed"): "7x200",
            of("tool_calls_total", tool="find", outcome="failed"): steps(every=10, times=9),
        },
        "2h",
        value="100%",
        labels=TOOL,
        every="2m",
    ),
    AlertCase("AvrStsCostHigh", {of("cost_usd_total", model="m"): "0+5x200", **TEN_CALLS}, "70m", value="1.00"),
    AlertCase("AvrStsCostHigh", {of("cost_usd_total", model="m"): "0+0.5x200", **TEN_CALLS}, "70m", firing=False),
    AlertCase(
        "AvrStsCostUnknown",
        {
            of("tokens_total", model="new", **TOKENS): "0+10x200",
            of("tokens_total", model="old", **TOKENS): "0+10x200",
            of("cost_usd_total", model="old"): "0+0.1x200",
        },
        "70m",
        labels=MODEL,
    ),
    # The value is expected and not used: no cost is no fault.
    AlertCase(
        "AvrStsCostUnknown",
        {of("tokens_total", model="new", **TOKENS): "0x200", of("cost_usd_total", model="new"): "0x200"},
        "70m",
        firing=False,
    ),
)

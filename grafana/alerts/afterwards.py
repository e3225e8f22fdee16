"""Alerts on tools, cost, call records and recordings."""

from __future__ import annotations

from typing import Final

from grafana.rule import BY, Alert, When, limit, over, recorded

ALERTS: Final = (
    Alert(
        "AvrStsToolFails",
        "warning",
        "5m",
        (
            (
                When(over("15m").tool_failed("tool"), f">= {limit('toolFailed')}"),
                When(over("15m").increase("tool_calls_total", "tool", match=('outcome!="completed"',)), "> 3"),
            ),
            # A tool that is seldom called.
            (
                When(over("6h").tool_failed("tool"), "> 0.95"),
                When(over("6h").increase("tool_calls_total", "tool", match=('outcome!="completed"',)), "> 2.5"),
            ),
        ),
        "{{ $value | humanizePercentage }} of the calls of tool {{ $labels.tool }} fail",
        "Callers hear that the agent cannot do what they ask for.",
        "Look at the outcome: failed and timed_out are the tool's, refused is the model's use of it.",
        on=(*BY, "tool"),
    ),
    Alert(
        "AvrStsRecordsWait",
        "warning",
        "5m",
        ((When(over("5m").records_oldest(), f">= {limit('recordsOldestSeconds')}"),),),
        "A call record has waited {{ $value | humanizeDuration }} for delivery",
        "Callers notice nothing. Records are given up after a day, or when CALL_RECORDS_MAX_BYTES wait.",
        "Look why the receiver at CALL_RECORDS_WEBHOOK, or the disk of CALL_RECORDS_DIR, takes no records.",
    ),
    Alert(
        "AvrStsRecordsLost",
        "warning",
        "0m",
        ((When(over("15m").records_lost(), f">= {limit('recordsLost')}"),),),
        "Call records are dropped, or were given up",
        "Callers notice nothing. Who reads the records misses calls.",
        "Mend the receiver, then have the dead records sent again; dropped ones are lost.",
    ),
    Alert(
        "AvrStsRecordingStopped",
        "warning",
        "2m",
        ((When(over("5m").recording_stopped(), f">= {limit('recordingStopped')}"),),),
        'The disk of {{ $value | printf "%.0f" }} dispatchers takes no recordings',
        "Callers notice nothing. No call is recorded there, also if callers were told so.",
        "Look at the disk of RECORDINGS_DIR: less than 5% is free, or it is full, read-only or broken.",
    ),
    Alert(
        "AvrStsRecordingIncomplete",
        "warning",
        "0m",
        ((When(over("10m").recording_dropped("reason"), "> 0"),),),
        'Recordings lack {{ $value | printf "%.0f" }} seconds ({{ $labels.reason }})',
        "Callers notice nothing. Their recordings have silence in place of sound.",
        "Look at the reason: the disk (disk, error, queue), the call's length, or the network to AVR Core (late).",
        on=(*BY, "reason"),
    ),
    Alert(
        "AvrStsCostHigh",
        "warning",
        "15m",
        (
            (
                When(
                    recorded("namespace:avr_sts_cost_usd:per_call_minute_rate1h"),
                    f">= {limit('costUsdPerCallMinute')}",
                ),
            ),
        ),
        'A minute of a call costs {{ $value | printf "%.2f" }} USD',
        "Callers notice nothing; you pay.",
        "Look at dashboard Cost: input that is not cached, long answers, or a dearer model.",
    ),
    Alert(
        "AvrStsCostUnknown",
        "warning",
        "15m",
        ((When(over("1h").cost_per_token(), "<= 0"),),),
        "Model {{ $labels.model }} has no price",
        "Callers notice nothing. The model's tokens are counted, and their cost is not.",
        "Add the model to a price file, and name that file in PRICES_FILE.",
        on=(*BY, "model"),
    ),
)

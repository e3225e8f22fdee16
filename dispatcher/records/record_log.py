"""The log line of a call's record: one wide event, without anything that was said, and with numbers masked."""

from __future__ import annotations

from typing import Any, Final

from dispatcher.records.call_record import CallRecord, iso_time

SHOWN_CHARACTERS: Final = 3
"""Of a value of the metadata, which may be a caller's number: enough to find the call again."""

_NOT_LOGGED: Final = frozenset(
    {
        *("said", "said_left_out", "metadata", "tools", "tools_left_out"),
        *("tokens", "recording", "uuid", "id"),
    }
)


def masked(value: str) -> str:
    """Return the last three characters of a value that may be a number; an ellipsis stands for the others."""
    return f"…{value[-SHOWN_CHARACTERS:]}" if len(value) > SHOWN_CHARACTERS else value


def log_fields(record: CallRecord) -> dict[str, Any]:
    """Return the fields of the log line `call record`; the line has the call's uuid already."""
    fields = {name: value for name, value in record.as_json().items() if name not in _NOT_LOGGED}
    latency = fields.pop("turn_latency")
    totals: dict[str, int] = {}
    for tokens in record.tokens.values():
        for name, count in tokens.items():
            totals[name] = totals.get(name, 0) + count
    failed = sum(tool.outcome != "completed" for tool in record.tools)
    return {
        "record": record.id,
        **fields,
        **{f"turn_latency_{name}": value for name, value in latency.items()},
        **{f"tokens_{name}": count for name, count in sorted(totals.items())},
        "tools": len(record.tools) + record.tools_left_out,
        "tools_failed": failed,
        "recordings": len(record.recording),
        "metadata": {name: masked(value) for name, value in record.metadata.items()},
        "started_at": iso_time(record.started_at),
    }

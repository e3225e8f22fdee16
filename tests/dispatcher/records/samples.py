"""Call records for tests."""

from __future__ import annotations

from typing import Any

from dispatcher.records import selectors
from dispatcher.records.call_record import CallRecord, Said
from dispatcher.records.outbox import OutboxRecord

ENDED_SECONDS = 1_700_000_000.0


def call_record(number: int = 1, **fields: Any) -> CallRecord:
    """Return the record of a call; later numbers are later calls."""
    given: dict[str, Any] = {
        "id": f"record-{number:04}",
        "uuid": f"uuid-{number:04}",
        "tenant": None,
        "metadata": {"from": f"+3902123{number:05}", "to": "+390298765432"},
        "started_at": ENDED_SECONDS + number - 60,
        "ended_at": ENDED_SECONDS + number,
        "ending": "completed",
        "reason": "caller_hung_up",
        "reason_text": "the caller hung up",
        "hung_up_by": "caller",
        "said": (Said("user", "my card is 4111 1111 1111 1111", 1.5), Said("agent", "Thank you", 2.0)),
    }
    return CallRecord(**(given | fields))


def outbox_record(number: int = 1, waits: tuple[str, ...] = ("webhook",), **fields: Any) -> OutboxRecord:
    """Return the same record as the outbox stores it."""
    record = call_record(number)
    given: dict[str, Any] = {
        "id": record.id,
        "uuid": record.uuid,
        "selectors": selectors.of_record(record),
        "waits": waits,
        "ended_ms": round(record.ended_at * 1000),
        "age_seconds": 0.0,
        "reason": "",
        "body": record.encoded(),
    }
    return OutboxRecord(**(given | fields))

"""The way of a call record to its bytes: redaction, encoding, and the bound of its size."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

from common.observe.redaction import without_known
from dispatcher.records import selectors
from dispatcher.records.call_record import CallRecord, Said
from dispatcher.records.held_records import HeldRecord
from dispatcher.records.redaction_hook import RedactionThread

MAX_RECORD_BYTES: Final = 256 << 10
"""Maximum size of a record with what was said. Beyond it, the last texts are left out and counted."""

_BESIDE_TEXT_BYTES = 50
"""Of one text in a record."""


async def redacted(record: CallRecord, thread: RedactionThread) -> tuple[CallRecord, int]:
    """Return a record whose texts are redacted, and the number of texts that are left out."""
    if not record.said:
        return record, 0
    made = await thread.texts([said.text for said in record.said], list(record.metadata.values()))
    said = tuple(
        Said(each.role, text, each.at_seconds)
        for each, text in zip(record.said, made.texts, strict=True)
        if text is not None
    )
    left_out = record.said_left_out + made.failures
    return dataclasses.replace(record, said=said, said_left_out=left_out), made.failures


def encoded(record: CallRecord) -> bytes:
    """Return the bytes of a record, bounded in size and without known secrets."""
    record = _with_fewer_texts(record, _number_that_fits(record.said or ()))
    body = record.encoded()
    while len(body) > MAX_RECORD_BYTES and record.said:
        record = _with_fewer_texts(record, len(record.said) * 3 // 4)
        body = record.encoded()
    return without_known(body.decode(), record.uuid).encode()


def _number_that_fits(said: Sequence[Said]) -> int:
    """Return how many texts fit, by an estimate: encoding all of a very long record takes too long."""
    size = 0
    for number, each in enumerate(said):
        size += len(each.text.encode()) + _BESIDE_TEXT_BYTES
        if size > MAX_RECORD_BYTES:
            return number
    return len(said)


def _with_fewer_texts(record: CallRecord, number: int) -> CallRecord:
    if record.said is None or number >= len(record.said):
        return record
    left_out = record.said_left_out + len(record.said) - number
    return dataclasses.replace(record, said=record.said[:number], said_left_out=left_out)


def held(record: CallRecord, body: bytes, sinks: tuple[str, ...], now: float, *, is_kept: bool) -> HeldRecord:
    """Return a record as this process holds it."""
    return HeldRecord(
        id=record.id,
        uuid=record.uuid,
        selectors=selectors.of_record(record),
        ended_ms=round(record.ended_at * 1000),
        body=body,
        waits=sinks,
        since_seconds=now,
        is_kept=is_kept,
    )

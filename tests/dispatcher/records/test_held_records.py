from __future__ import annotations

from typing import Any

from dispatcher.records import selectors
from dispatcher.records.held_records import HeldRecord, HeldRecords
from tests.dispatcher.records.samples import outbox_record

SIZE = HeldRecord.of(outbox_record(), 0.0).size


def held(number: int, **fields: Any) -> HeldRecord:
    record = HeldRecord.of(outbox_record(number), 0.0)
    for name, value in fields.items():
        setattr(record, name, value)
    return record


def test_size_is_that_of_all_records() -> None:
    records = HeldRecords(10 * SIZE)
    records.add(held(1))
    records.add(held(2))
    assert (records.size, len(records)) == (2 * SIZE, 2)
    records.remove("record-0001")
    records.remove("record-0001")
    assert (records.size, len(records)) == (SIZE, 1)


def test_oldest_records_make_room() -> None:
    records = HeldRecords(3 * SIZE)
    for number in (1, 2, 3):
        assert records.add(held(number)) == []
    assert [each.id for each in records.add(held(4))] == ["record-0001"]
    assert [each.id for each in records.add(held(5, body=b"x" * SIZE))] == ["record-0002", "record-0003"]


def test_same_id_is_held_once() -> None:
    records = HeldRecords(10 * SIZE)
    first = held(1)
    records.add(first)
    assert records.add(held(1, body=b"other")) == []
    assert records.get("record-0001") is first
    assert records.size == SIZE


def test_erasure_removes_records_of_calls_before_it() -> None:
    records = HeldRecords(10 * SIZE)
    records.add(held(1))
    records.add(held(2))
    selector = selectors.of_uuid("uuid-0001")
    ended_ms = held(1).ended_ms
    assert records.erased({selector: ended_ms - 1}) == []
    assert [each.id for each in records.erased({selector: ended_ms})] == ["record-0001"]
    assert len(records) == 1


def test_claimed_record_keeps_its_age() -> None:
    record = HeldRecord.of(outbox_record(age_seconds=100.0), 1000.0)
    assert record.for_outbox(1010.0).age_seconds == 110.0


def test_records_of_other_processes_get_half_of_the_room() -> None:
    records = HeldRecords(4 * SIZE)
    assert records.free_bytes == 2 * SIZE
    for number in range(3):
        records.add(held(number))
    assert records.free_bytes == 0

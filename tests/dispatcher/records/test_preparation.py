from __future__ import annotations

from collections.abc import Iterator

import orjson
import pytest

from common.observe import redaction
from dispatcher.records import preparation, selectors
from dispatcher.records.call_record import Said
from dispatcher.records.preparation import MAX_RECORD_BYTES
from dispatcher.records.redaction import Redactor
from dispatcher.records.redaction_hook import RedactionThread
from tests.dispatcher.records.samples import call_record

SECRET = "sk-secret-of-this-test"


@pytest.fixture
def known() -> Iterator[None]:
    redaction.know("test_preparation", [SECRET])
    yield
    redaction.know("test_preparation", [])


def test_known_secrets_are_not_in_a_record(known: None) -> None:
    record = call_record(reason_text=f"the key {SECRET} was refused", said=None)
    body = preparation.encoded(record)
    assert SECRET.encode() not in body
    assert orjson.loads(body)["reason_text"] == "the key *** was refused"


def test_record_over_the_bound_loses_its_last_texts() -> None:
    said = tuple(Said("user", f"{number} " + "x" * 10_000, float(number)) for number in range(100))
    record = orjson.loads(body := preparation.encoded(call_record(said=said, said_left_out=3)))
    assert len(body) <= MAX_RECORD_BYTES
    assert record["said"][0]["text"].startswith("0 ")
    assert len(record["said"]) + record["said_left_out"] == 103


async def test_texts_keep_their_role_and_time() -> None:
    thread = RedactionThread(Redactor())
    record, failures = await preparation.redacted(call_record(), thread)
    assert failures == 0
    assert record.said == (Said("user", "my card is [card]", 1.5), Said("agent", "Thank you", 2.0))


async def test_record_without_texts_starts_no_thread() -> None:
    record = call_record(said=None)
    assert (await preparation.redacted(record, RedactionThread(Redactor())))[0] is record


def test_held_record_has_what_delivery_needs() -> None:
    record = call_record()
    held = preparation.held(record, b"{}", ("dir", "webhook"), 5.0, is_kept=True)
    assert (held.id, held.uuid, held.body) == (record.id, record.uuid, b"{}")
    assert held.selectors == selectors.of_record(record)
    assert held.ended_ms == round(record.ended_at * 1000)
    assert held.waits == ("dir", "webhook")
    assert not held.is_stored

"""A channel goes on over a new link: nothing is lost, nothing comes twice."""

from __future__ import annotations

import random

import pytest

from common.errors import LinkProtocolError
from common.link.retransmit_buffer import (
    ACK_BYTES,
    ACK_RECORDS,
    MAX_KEPT_BYTES,
    MAX_KEPT_RECORDS,
    RetransmitBuffer,
)


def test_unacknowledged_records_are_retransmitted() -> None:
    stream = RetransmitBuffer()
    for number in range(5):
        stream.sending(bytes([number]))
    assert stream.resumed(3) == [b"\3", b"\4"]
    assert stream.resumed(3) == [b"\3", b"\4"]
    assert stream.resumed(5) == []


def test_acknowledged_records_are_dropped() -> None:
    stream = RetransmitBuffer()
    for number in range(4):
        stream.sending(bytes([number]))
    stream.acknowledged(4)
    stream.sending(b"last")
    assert stream.resumed(4) == [b"last"]


@pytest.mark.parametrize("received", [2, 5])
def test_a_count_that_cannot_be_is_refused(received: int) -> None:
    stream = RetransmitBuffer()
    for _ in range(4):
        stream.sending(b"record")
    stream.acknowledged(3)
    with pytest.raises(LinkProtocolError, match=f"{received} records"):
        stream.acknowledged(received)


def test_an_acknowledgement_is_due_after_enough_records_or_bytes() -> None:
    stream = RetransmitBuffer()
    assert [stream.receive(1) for _ in range(2 * ACK_RECORDS)].count(True) == 2
    assert not stream.receive(ACK_BYTES - 1)
    assert stream.receive(1)
    assert stream.received == 2 * ACK_RECORDS + 2


@pytest.mark.parametrize(
    ("count", "size_bytes"), [(MAX_KEPT_RECORDS, 10), (8, MAX_KEPT_BYTES // 8)], ids=["records", "bytes"]
)
def test_unacknowledged_records_are_kept_up_to_a_bound(count: int, size_bytes: int) -> None:
    stream = RetransmitBuffer()
    record = bytes(size_bytes)
    full = []
    for _ in range(count + 2):
        stream.sending(record)
        full.append(stream.is_full)
    assert full == [False] * count + [True] * 2
    assert len(stream.resumed(0)) == count + 1
    # It has lost records: no acknowledgement makes it whole again.
    stream.acknowledged(count + 1)
    assert stream.is_full


def test_an_acknowledgement_makes_room() -> None:
    stream = RetransmitBuffer()
    record = bytes(MAX_KEPT_BYTES)
    for number in range(1, 5):
        stream.sending(record)
        stream.acknowledged(number)
    assert not stream.is_full


@pytest.mark.parametrize("seed", range(20))
def test_links_that_break_at_any_time_lose_and_repeat_nothing(seed: int) -> None:
    choose = random.Random(seed)
    here, there = RetransmitBuffer(), RetransmitBuffer()
    sent: list[bytes] = []
    got: list[bytes] = []
    on_the_wire: list[bytes] = []
    for number in range(400):
        record = number.to_bytes(2, "big")
        sent.append(record)
        here.sending(record)
        on_the_wire.append(record)
        while on_the_wire and choose.random() < 0.6:
            got.append(on_the_wire.pop(0))
            if there.receive(2) and choose.random() < 0.8:
                here.acknowledged(there.received)
        if choose.random() < 0.05:
            on_the_wire = here.resumed(there.received)
    assert got + on_the_wire == sent

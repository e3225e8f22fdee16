"""A channel on two links, one after the other: both ends, with the records that cross between them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from common.errors import LinkProtocolError
from common.link import wire
from common.link.channel import Channel, ChannelState
from common.link.retransmit_buffer import ACK_RECORDS, MAX_KEPT_BYTES
from common.link.wire import Kind

NUMBER = 7
BINARY: tuple[tuple[wire.Binary, Kind, Callable[[memoryview], object]], ...] = (
    (wire.CallerAudio(160, b"\1\2"), Kind.CALLER_AUDIO, wire.decode_caller_audio),
    (wire.ReplyAudio(3, b"\1\2"), Kind.REPLY_AUDIO, wire.decode_reply_audio),
    (wire.ReplyText(3, 80, "né"), Kind.REPLY_TEXT, wire.decode_reply_text),
    (wire.KeptAudio(160, b"\xff"), Kind.KEPT_AUDIO, wire.decode_kept_audio),
)


class Link:
    """A link that keeps sent records."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def records(self) -> list[tuple[int, int, bytes]]:
        return [(kind, number, bytes(payload)) for kind, number, payload in wire.decode(b"".join(self.sent))]

    def kinds(self) -> list[int]:
        return [kind for kind, _, _ in self.records()]


@pytest.mark.parametrize(("record", "kind", "decode"), BINARY)
def test_binary_records_are_read_as_they_were_sent(
    record: wire.Binary, kind: Kind, decode: Callable[[memoryview], object]
) -> None:
    link = Link()
    Channel(NUMBER, link.sent.append).send(record)
    ((sent, number, payload),) = link.records()
    assert (sent, number) == (kind, NUMBER)
    assert decode(memoryview(payload)) == tuple(record)


def test_credit_and_control_records_carry_the_number() -> None:
    link = Link()
    channel = Channel(NUMBER, link.sent.append)
    channel.send(wire.Credit(8000))
    channel.send(wire.Flush(2))
    (first, second) = link.records()
    assert first[:2] == (Kind.CREDIT, NUMBER)
    assert wire.decode_credit(memoryview(first[2])) == 8000
    assert second[:2] == (Kind.FLUSH, NUMBER)
    assert wire.decode_control(wire.Flush, memoryview(second[2])) == wire.Flush(2)


def test_records_wait_while_the_link_is_broken() -> None:
    old, new = Link(), Link()
    channel = Channel(NUMBER, old.sent.append)
    channel.send(wire.Flush(1))
    channel.broke()
    channel.send(wire.Flush(2))
    channel.attach(new.sent.append, "uuid-1", 4)
    channel.send(wire.Flush(3))
    assert new.kinds() == [Kind.ATTACH]
    channel.resumed(0)
    assert channel.state is ChannelState.OPEN
    assert new.kinds() == [Kind.ATTACH, Kind.FLUSH, Kind.FLUSH, Kind.FLUSH]
    assert old.kinds() == [Kind.FLUSH]


def test_the_end_that_is_asked_answers_and_repeats() -> None:
    new = Link()
    channel = Channel(NUMBER, None)
    for number in range(3):
        channel.send(wire.Flush(number))
    channel.receive(Kind.CREDIT, 4)
    channel.accept(new.sent.append, 2)
    assert new.kinds() == [Kind.ATTACHED, Kind.FLUSH]
    assert wire.decode_control(wire.Attached, memoryview(new.records()[0][2])) == wire.Attached(1)


def test_a_count_of_unsent_records_leaves_the_channel_broken() -> None:
    channel = Channel(NUMBER, None)
    with pytest.raises(LinkProtocolError, match="5 records"):
        channel.accept(Link().sent.append, 5)
    assert channel.state is ChannelState.BROKEN


def test_uncounted_records_are_dropped_without_a_link() -> None:
    link = Link()
    channel = Channel(NUMBER, None)
    channel.send_uncounted(wire.Close("gone"))
    channel.accept(link.sent.append, 0)
    assert link.kinds() == [Kind.ATTACHED]


def test_received_records_are_acknowledged_in_time() -> None:
    link = Link()
    channel = Channel(NUMBER, link.sent.append)
    for _ in range(ACK_RECORDS):
        channel.receive(Kind.ACK, 4)
    assert link.sent == []
    for _ in range(ACK_RECORDS):
        channel.receive(Kind.CREDIT, 4)
    assert link.kinds() == [Kind.ACK]
    assert channel.received == ACK_RECORDS


def test_a_peer_that_acknowledges_nothing_fills_the_channel() -> None:
    channel = Channel(NUMBER, None)
    second = bytes(16_000)
    for number in range(MAX_KEPT_BYTES // len(second) + 1):
        channel.send(wire.CallerAudio(number * 8000, second))
    assert channel.is_full

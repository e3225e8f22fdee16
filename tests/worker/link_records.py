"""What an encoded record of the link says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from common.link import wire
from common.link.wire import Kind


@dataclass(frozen=True, slots=True)
class Ack:
    """ACK."""

    received: int


Record = wire.Record | Ack

# What a worker says for the dispatcher to remember.
JOURNAL = (wire.Profile, wire.ItemUpdate, wire.Finished, wire.ReplyText)

_CONTROL: dict[int, type[wire.Control]] = {record.kind: record for record in get_args(wire.Control)}


def decoded(kind: int, payload: memoryview) -> Record:
    """Return one record of a worker."""
    if kind == Kind.REPLY_AUDIO:
        index, pcm = wire.decode_reply_audio(payload)
        return wire.ReplyAudio(index, bytes(pcm))
    if kind == Kind.CREDIT:
        return wire.Credit(wire.decode_credit(payload))
    if kind == Kind.REPLY_TEXT:
        return wire.ReplyText(*wire.decode_reply_text(payload))
    if kind == Kind.ACK:
        return Ack(wire.decode_ack(payload))
    return wire.decode_control(_CONTROL[kind], payload)


def decoded_all(records: list[bytes], channel: int) -> list[Record]:
    """Encoded records, all of which must be of this channel."""
    parts = [part for record in records for part in wire.decode(record)]
    assert {on for _, on, _ in parts} <= {channel}
    return [decoded(kind, payload) for kind, _, payload in parts]


def payload_of(record: bytes) -> tuple[int, memoryview]:
    """Kind and payload of one encoded record."""
    ((kind, _, payload),) = wire.decode(record)
    return kind, payload

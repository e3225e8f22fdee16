"""What an encoded record of the link says."""

from __future__ import annotations

from dataclasses import dataclass

from common import link
from common.link import Kind


@dataclass(frozen=True, slots=True)
class Audio:
    """REPLY_AUDIO."""

    index: int
    pcm: bytes


@dataclass(frozen=True, slots=True)
class Credit:
    """CREDIT."""

    credit_bytes: int


Record = link.Control | Audio | Credit

_CONTROL: dict[int, type[link.Control]] = {
    record.kind: record
    for record in (
        link.Hello,
        link.Opened,
        link.Refused,
        link.Ready,
        link.ReplyItem,
        link.ReplyItemDone,
        link.Flush,
        link.Transcript,
        link.Finished,
        link.Ended,
        link.Order,
        link.Result,
        link.Event,
    )
}


def decoded(kind: int, payload: memoryview) -> Record:
    """One record of a worker."""
    if kind == Kind.REPLY_AUDIO:
        index, pcm = link.decode_reply_audio(payload)
        return Audio(index, bytes(pcm))
    if kind == Kind.CREDIT:
        return Credit(link.decode_credit(payload))
    return link.decode_control(_CONTROL[kind], payload)


def decoded_all(records: list[bytes], channel: int) -> list[Record]:
    """Encoded records, all of which must be of this channel."""
    parts = [part for record in records for part in link.decode(record)]
    assert {on for _, on, _ in parts} <= {channel}
    return [decoded(kind, payload) for kind, _, payload in parts]


def payload_of(record: bytes) -> tuple[int, memoryview]:
    """Kind and payload of one encoded record."""
    ((kind, _, payload),) = link.decode(record)
    return kind, payload

"""The dispatcher's memory of a call, as a worker reads it."""

from __future__ import annotations

import pytest

from common.audio import g711
from common.errors import LinkProtocolError
from common.link import wire
from common.link.wire import Kind
from tests.worker.link_records import payload_of
from worker.session.memory.checkpoint import Checkpoint, CheckpointReader

NOBODY: frozenset[str] = frozenset()


def read(reader: CheckpointReader, *records: wire.Control) -> wire.Resume | None:
    """Read records; what the last one ends."""
    go = None
    for record in records:
        go = reader.record(*payload_of(wire.encode(record, 1)))
    return go


def test_a_memory_ends_with_go_and_is_whole_then() -> None:
    reader = CheckpointReader()
    profile = wire.Profile({"model": "m"}, {"api_key": "secret"})
    items = [wire.ItemUpdate("a", item={"text": "Hello."}), wire.ItemUpdate("b", "a", item={"text": "Hi."})]
    replies = (wire.Reply(3, "c", "How", 800, 400),)
    assert read(reader, profile, *items, wire.PendingReplies(replies)) is None
    codes = g711.encode_ulaw(bytes(range(256)) * 2)
    for position in (0, 256):
        assert reader.record(*payload_of(wire.encode_kept_audio(1, position, codes))) is None
    go = read(reader, wire.Resume("drain", True, ("call_1",), "12", True))
    assert go is not None
    assert reader.profile == profile
    pcm = g711.decode_ulaw(codes)
    assert reader.take(go, frozenset({"call_7"})) == Checkpoint(
        reason="drain",
        standby=True,
        items=items,
        replies=replies,
        audio=[(0, pcm), (256, pcm)],
        known_commands=frozenset({"call_1"}),
        digits="12",
        speaking=True,
        running=frozenset({"call_7"}),
    )


def test_an_empty_one_is_one() -> None:
    reader = CheckpointReader()
    go = read(reader, wire.Resume())
    assert go is not None
    assert reader.take(go, NOBODY) == Checkpoint()
    assert reader.profile is None


def test_the_next_memory_takes_the_place_of_the_one_before() -> None:
    reader = CheckpointReader()
    profile = wire.Profile({"model": "m"})
    standby = read(
        reader, profile, wire.ItemUpdate("a"), wire.PendingReplies((wire.Reply(),)), wire.Resume("drain", True)
    )
    assert standby is not None
    first = reader.take(standby, NOBODY)
    go = read(reader, wire.ItemUpdate("b"), wire.Resume("drain"))
    assert go is not None
    second = reader.take(go, NOBODY)
    assert [item.item_id for item in first.items] == ["a"]
    assert [item.item_id for item in second.items] == ["b"]
    assert (second.replies, second.audio, second.standby) == ((), [], False)
    # The settings are the call's, until there are others.
    assert reader.profile == profile


def test_other_records_are_not_for_it() -> None:
    reader = CheckpointReader()
    assert read(reader, wire.Flush(1), wire.Playout()) is None
    assert reader.record(200, memoryview(b"of a newer release")) is None


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (Kind.PROFILE, b"not json"),
        (Kind.ITEM_UPDATE, b'{"item":7}'),
        (Kind.PENDING_REPLIES, b'{"replies":[7]}'),
        (Kind.KEPT_AUDIO, b"short"),
        (Kind.RESUME, b"[]"),
    ],
)
def test_what_cannot_be_understood_is_the_links_error(kind: int, payload: bytes) -> None:
    with pytest.raises(LinkProtocolError):
        CheckpointReader().record(kind, memoryview(payload))

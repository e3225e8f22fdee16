"""The link: arbitrary messages and records, at each place that reads one."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import LinkProtocolError
from common.link import wire
from common.link.retransmit_buffer import RetransmitBuffer
from common.link.wire import Kind
from tests.fuzz.budget import TALLY, examples
from tests.fuzz.inputs import as_json, as_read, bent, hostile
from tests.fuzz.link_inputs import TYPES, Record, controls, records, sounds
from worker.session.memory.checkpoint import CheckpointReader
from worker.session.memory.conversation import Conversation, Item

TARGET = "link"
_DECODERS = {
    Kind.CALLER_AUDIO: wire.decode_caller_audio,
    Kind.REPLY_AUDIO: wire.decode_reply_audio,
    Kind.REPLY_TEXT: wire.decode_reply_text,
    Kind.KEPT_AUDIO: wire.decode_kept_audio,
    Kind.CREDIT: wire.decode_credit,
    Kind.ACK: wire.decode_ack,
}


def packed(record: Record, channel: int = 1) -> bytes:
    kind, payload = record
    return struct.pack("!BII", kind, channel, len(payload)) + payload


@st.composite
def link_messages(draw: st.DrawFn) -> bytes:
    whole = b"".join(packed(record) for record in draw(st.lists(records(), max_size=4)))
    return draw(bent(whole)) if draw(st.booleans()) else whole


@examples(20_000)
@given(st.binary(max_size=64) | link_messages())
def test_a_message_is_split_whole_or_refused(data: bytes) -> None:
    TALLY.took(TARGET, 1)
    size = 0
    try:
        for kind, channel, payload in wire.decode(data):
            assert 0 <= kind <= 255
            assert 0 <= channel < 2**32
            size += wire.HEAD_BYTES + len(payload)
    except LinkProtocolError:
        assert size < len(data)
    else:
        assert size == len(data)


@examples(25_000)
@given(
    st.one_of(
        controls(),
        st.tuples(st.sampled_from(sorted(TYPES)), hostile.map(as_json)),
        st.tuples(st.sampled_from(sorted(TYPES)), st.binary(max_size=20)),
        sounds(),
        st.tuples(st.sampled_from(sorted(_DECODERS)), st.binary(max_size=20)),
    )
)
def test_record_is_refused_or_read_and_can_be_written_again(record: Record) -> None:
    TALLY.took(TARGET, 1)
    kind, payload = record
    view = memoryview(payload)
    if kind in TYPES:
        try:
            read = wire.decode_control(TYPES[kind], view)
        except LinkProtocolError as refused:
            error = str(refused)
        else:
            error = ""
        if error:
            # No caller's words and no key get into a log this way.
            assert "sk-" not in error
            return
        ((again, channel, written),) = wire.decode(wire.encode(read, 1))
        assert (again, channel) == (kind, 1)
        assert wire.decode_control(TYPES[kind], written) == read
        return
    try:
        _DECODERS[Kind(kind)](view)
    except LinkProtocolError:
        return
    if kind in (Kind.CALLER_AUDIO, Kind.KEPT_AUDIO):
        position, sound = wire.decode_kept_audio(view)
        # Later positions can be written as well.
        wire.encode_caller_audio(1, position + len(sound), b"")
        wire.encode(wire.Finished(position + len(sound)), 1)


@examples(5_000)
@given(
    st.lists(
        st.tuples(st.sampled_from(["send", "receive", "acknowledged", "resumed"]), st.integers(-1, 40)),
        max_size=40,
    )
)
def test_stream_counts_right_with_any_peer(script: list[tuple[str, int]]) -> None:
    TALLY.took(TARGET, len(script))
    stream = RetransmitBuffer()
    sent, acknowledged, received = 0, 0, 0
    for event, number in script:
        if event == "send":
            stream.sending(number.to_bytes(1, signed=True))
            sent += 1
        elif event == "receive":
            stream.receive(max(0, number) * 1000)
            received += 1
        elif not acknowledged <= number <= sent:
            with pytest.raises(LinkProtocolError):
                getattr(stream, event)(number)
        else:
            left = getattr(stream, event)(number)
            acknowledged = number
            assert left is None or len(left) == sent - acknowledged
        assert len(stream._unacknowledged) == sent - acknowledged
        assert stream.received == received


MEMORY = (Kind.PROFILE, Kind.ITEM_UPDATE, Kind.ITEM_UPDATE, Kind.ITEM_UPDATE, Kind.PENDING_REPLIES, Kind.RESUME)


@examples(8_000)
@given(st.lists(records(*MEMORY), max_size=12))
def test_a_memory_is_read_and_a_conversation_begins_with_it(given_records: list[Record]) -> None:
    TALLY.took("memory", len(given_records))
    reader = CheckpointReader()
    for kind, payload in given_records:
        try:
            reader.record(kind, memoryview(payload))
        except LinkProtocolError:
            continue
    checkpoint = reader.take(wire.Resume(), frozenset())
    conversation = Conversation()
    conversation.load(checkpoint.items)
    assert len(conversation) == len({item.item_id for item in conversation})
    for record in conversation.everything():
        wire.encode(record, 1)
    # The conversation can be shown, sent and forgotten.
    conversation.as_json()
    for item in conversation.due_transcripts(1e9):
        wire.encode(wire.Transcript(item.item_id, str(item.role), item.heard_text), 1)
    for item_id in [item.item_id for item in conversation]:
        conversation.remove(item_id)
    assert len(conversation) == 0


FIELDS = [
    *(
        "kind",
        "role",
        "text",
        "text_done",
        "heard_share",
        "reported",
        "call_id",
        "name",
        "started",
        "silent",
        "span",
    ),
    "of_next_year",
]


@examples(12_000)
@given(st.dictionaries(st.sampled_from(FIELDS), hostile | st.sampled_from(["user", "function_call", [0, 160]])))
def test_an_item_is_understood_or_refused(record: dict[str, object]) -> None:
    TALLY.took("memory", 1)
    read = as_read(record)
    if read is None:
        return
    try:
        item = Item.from_record("item", read)
    except (TypeError, ValueError, LookupError):
        return
    wire.encode(wire.ItemUpdate("item", item=item.to_record()), 1)
    assert isinstance(item.heard_text, str)

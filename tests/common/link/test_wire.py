from __future__ import annotations

import contextlib
import dataclasses
from typing import Any, get_args

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import LinkProtocolError
from common.link import wire
from common.link.wire import Control, ItemHeard, Kind

CONTROL_TYPES: tuple[type[Control], ...] = get_args(Control)
BY_KIND: dict[int, type[Control]] = {record_type.kind: record_type for record_type in CONTROL_TYPES}
# Records with a head of bytes instead of JSON.
BINARY_KINDS = {
    Kind.CALLER_AUDIO,
    Kind.REPLY_AUDIO,
    Kind.CREDIT,
    Kind.ACK,
    Kind.REPLY_TEXT,
    Kind.KEPT_AUDIO,
}

# Part of the protocol: a number stays what it is for ever.
KINDS = {
    "HELLO": 1,
    "OPEN": 2,
    "OPENED": 3,
    "REFUSED": 4,
    "READY": 5,
    "CALLER_AUDIO": 6,
    "REPLY_ITEM": 7,
    "REPLY_AUDIO": 8,
    "REPLY_ITEM_DONE": 9,
    "FLUSH": 10,
    "HEARD": 11,
    "PLAYOUT": 12,
    "TRANSCRIPT": 13,
    "FINISHED": 14,
    "CREDIT": 15,
    "CLOSE": 16,
    "ENDED": 17,
    "DTMF": 18,
    "TELEPHONY_COMMAND": 19,
    "TELEPHONY_DONE": 20,
    "COMMAND": 21,
    "RESULT": 22,
    "EVENT": 23,
    "ATTACH": 24,
    "ATTACHED": 25,
    "ACK": 26,
    "REPLY_TEXT": 27,
    "KEYED": 28,
    "TOOL": 29,
    "TOOL_KNOWN": 30,
    "PROFILE": 31,
    "ITEM_UPDATE": 32,
    "PENDING_REPLIES": 33,
    "KEPT_AUDIO": 34,
    "RESUME": 35,
    "MOVE": 36,
    "RELEASE": 37,
    "RELEASED": 38,
    "AWAITING": 39,
    "FIGURES": 40,
    "COLLECT": 41,
    "COLLECTING": 42,
    "SECRET_KEY": 43,
    "PROOF": 64,
}

RECORDS: list[Control] = [
    wire.Hello(1, "1.2.3", "worker", "w-1", "abc", "00ff"),
    wire.Proof("ff00"),
    wire.Open(
        "uuid",
        7,
        {"from": "+39 02", "è": "🙂"},
        16_000,
        64_000,
        1.5,
        {"voice": "ash", "tools": [1, None]},
        restore=True,
        attach=True,
        first_index=3,
        delay_seconds=0.25,
        waited_seconds=4.5,
        tenant="acme",
    ),
    wire.Opened(32_000, attached=True, position_samples=8_000),
    wire.Attach("uuid", 7, 12),
    wire.Attached(13),
    wire.Refused("full", 3),
    wire.Ready(),
    wire.ReplyItem(2, "item_1"),
    wire.ReplyItemDone(2),
    wire.Flush(5),
    wire.Heard(5, (ItemHeard(1, 800), ItemHeard(2, 0))),
    wire.Playout((ItemHeard(2, 160),), True, (ItemHeard(2, 800), ItemHeard(3, 0)), 0.2),
    wire.Transcript("item_1", "agent", 'say "hello"\n'),
    wire.Finished(48_000, speaking=True),
    wire.Close("hung up", keep=True),
    wire.Ended("failed", "no quota", "upstream"),
    wire.Dtmf("#"),
    wire.TelephonyCommand("call_3", "transfer", "600", "demo", "1"),
    wire.TelephonyDone("call_3", True, "transferred"),
    wire.Keyed(3),
    wire.Tool("call_4"),
    wire.ToolKnown("call_4"),
    wire.Profile({"model": "m"}, {"api_key": "secret"}, "acme"),
    wire.ItemUpdate("item_2", "item_1", True, True, {"kind": "message", "text": "è"}, "c291bmQ="),
    wire.PendingReplies((wire.Reply(2, "item_1", "Hello", 800, 640, True, 320, True), wire.Reply())),
    wire.Resume("drain", True, ("call_3",), "12#", True),
    wire.Move("rollover", 240.0),
    wire.Release(30.0),
    wire.Released("dropped", "the connection was lost"),
    wire.Awaiting(True),
    wire.Figures(
        3,
        "gpt-realtime-2",
        "marin",
        (812, 1500),
        (wire.ToolFigure("weather", 0.25, "ok"), wire.ToolFigure()),
        tokens={"gpt-realtime-2": {"input_text": 1}},
        cost_usd=0.01,
    ),
    wire.Collect(7, on=True, seconds=60.0),
    wire.Collecting(7),
    wire.SecretKey(7, "5"),
    wire.Command(4, "uuid", "say", {"text": "hello"}),
    wire.Result(4, 200, {"said": True}),
    wire.Event(4, {"type": "transcript"}),
]

words = st.text(max_size=20)
numbers = st.integers(0, 2**53)
seconds = st.floats(0, 1e9)
items = st.builds(ItemHeard, numbers, numbers)
item_lists = st.lists(items, max_size=5).map(tuple)
replies = st.builds(wire.Reply, numbers, words, words, numbers, numbers, st.booleans(), numbers, st.booleans())
controls = st.one_of(
    st.builds(wire.Hello, numbers, words, words, words, words, words),
    st.builds(wire.Open, words, numbers, st.dictionaries(words, words, max_size=5), numbers, numbers),
    st.builds(wire.Heard, numbers, item_lists),
    st.builds(wire.Playout, item_lists, st.booleans(), item_lists, seconds),
    st.builds(wire.Transcript, words, words, words),
    st.builds(wire.Finished, numbers, st.booleans()),
    st.builds(wire.PendingReplies, st.lists(replies, max_size=5).map(tuple)),
    st.builds(wire.Resume, words, st.booleans(), st.lists(words, max_size=5).map(tuple), words, st.booleans()),
    st.builds(wire.ItemUpdate, words, words, st.booleans(), st.booleans(), st.dictionaries(words, words), words),
)


def decode_all(message: bytes) -> list[tuple[int, int, Any]]:
    """Return all records of a message, payloads decoded too where the kind is known."""
    return [(kind, channel, decode_payload(kind, payload)) for kind, channel, payload in wire.decode(message)]


def decode_payload(kind: int, payload: memoryview) -> Any:
    if kind == Kind.CALLER_AUDIO:
        position, pcm = wire.decode_caller_audio(payload)
        return position, bytes(pcm)
    if kind == Kind.REPLY_AUDIO:
        index, pcm = wire.decode_reply_audio(payload)
        return index, bytes(pcm)
    if kind == Kind.CREDIT:
        return wire.decode_credit(payload)
    if kind == Kind.ACK:
        return wire.decode_ack(payload)
    if kind == Kind.REPLY_TEXT:
        return wire.decode_reply_text(payload)
    if kind == Kind.KEPT_AUDIO:
        position, codes = wire.decode_kept_audio(payload)
        return position, bytes(codes)
    record_type = BY_KIND.get(kind)
    return wire.decode_control(record_type, payload) if record_type is not None else bytes(payload)


def control(record_type: type[Control], fields: object) -> Control:
    return wire.decode_control(record_type, memoryview(orjson.dumps(fields)))


def test_every_kind_has_a_record_and_an_example() -> None:
    assert BY_KIND.keys() | BINARY_KINDS == set(Kind)
    assert not BY_KIND.keys() & BINARY_KINDS
    assert [type(record) for record in RECORDS] == list(CONTROL_TYPES)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_control_record_comes_back(record: Control) -> None:
    assert decode_all(wire.encode(record, 9)) == [(record.kind, 9, record)]


def test_audio_comes_back() -> None:
    pcm = bytes(range(256)) * 2
    message = wire.encode_caller_audio(1, 2**40, pcm) + wire.encode_reply_audio(2**32 - 1, 3, pcm)
    assert decode_all(message) == [
        (Kind.CALLER_AUDIO, 1, (2**40, pcm)),
        (Kind.REPLY_AUDIO, 2**32 - 1, (3, pcm)),
    ]


def test_audio_without_samples_comes_back() -> None:
    message = wire.encode_caller_audio(1, 5, b"") + wire.encode_reply_audio(1, 6, b"")
    assert decode_all(message) == [(Kind.CALLER_AUDIO, 1, (5, b"")), (Kind.REPLY_AUDIO, 1, (6, b""))]


def test_credit_comes_back() -> None:
    assert decode_all(wire.encode_credit(4, 2**32 - 1)) == [(Kind.CREDIT, 4, 2**32 - 1)]


def test_acknowledgements_come_back() -> None:
    assert decode_all(wire.encode_ack(4, 2**32 - 1)) == [(Kind.ACK, 4, 2**32 - 1)]


@pytest.mark.parametrize("text", ["", "Hello", "È già 🙂"])
def test_reply_text_comes_back(text: str) -> None:
    message = wire.encode_reply_text(4, 5, 2**32 - 1, text)
    assert decode_all(message) == [(Kind.REPLY_TEXT, 4, (5, 2**32 - 1, text))]


def test_text_that_is_not_unicode_goes_all_the_same() -> None:
    # JSON can bring half of a surrogate pair.
    (record,) = decode_all(wire.encode_reply_text(4, 5, 6, "a\ud800b"))
    assert record == (Kind.REPLY_TEXT, 4, (5, 6, "a?b"))


def test_kept_audio_comes_back() -> None:
    message = wire.encode_kept_audio(1, 2**40, b"codes") + wire.encode_kept_audio(1, 5, b"")
    assert decode_all(message) == [(Kind.KEPT_AUDIO, 1, (2**40, b"codes")), (Kind.KEPT_AUDIO, 1, (5, b""))]


def test_the_numbers_of_the_kinds_are_part_of_the_protocol() -> None:
    assert {kind.name: kind.value for kind in Kind} == KINDS
    assert wire.encode_ack(3, 4) == b"\x1a\x00\x00\x00\x03\x00\x00\x00\x04\x00\x00\x00\x04"
    text = b"\x1b\x00\x00\x00\x03\x00\x00\x00\x0a\x00\x00\x00\x04\x00\x00\x00\x05ab"
    assert wire.encode_reply_text(3, 4, 5, "ab") == text
    assert wire.encode_kept_audio(3, 4, b"ab") == b"\x22\x00\x00\x00\x03\x00\x00\x00\x0a" + bytes(7) + b"\x04ab"
    assert wire.encode(wire.Flush(1), 2) == b'\x0a\x00\x00\x00\x02\x00\x00\x00\x0c{"number":1}'
    assert wire.encode_credit(3, 4) == b"\x0f\x00\x00\x00\x03\x00\x00\x00\x04\x00\x00\x00\x04"
    assert wire.encode_reply_audio(3, 4, b"ab") == b"\x08\x00\x00\x00\x03\x00\x00\x00\x06\x00\x00\x00\x04ab"
    assert wire.encode_caller_audio(3, 4, b"ab") == b"\x06\x00\x00\x00\x03\x00\x00\x00\x0a" + bytes(7) + b"\x04ab"


def test_many_records_share_a_message_in_order() -> None:
    message = b"".join(wire.encode(record, channel) for channel, record in enumerate(RECORDS, start=1))
    assert decode_all(message) == [
        (record.kind, channel, record) for channel, record in enumerate(RECORDS, start=1)
    ]


def test_an_unknown_kind_is_skipped_by_its_length() -> None:
    unknown = b"\xc8\x00\x00\x00\x05\x00\x00\x00\x03new"
    message = wire.encode(wire.Ready(), 1) + unknown + wire.encode(wire.Flush(1), 1)
    assert decode_all(message) == [
        (Kind.READY, 1, wire.Ready()),
        (200, 5, b"new"),
        (Kind.FLUSH, 1, wire.Flush(1)),
    ]


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_message_that_ends_within_a_record_is_refused(cut: int) -> None:
    first = wire.encode(wire.Ready(), 1)
    message = first + wire.encode(wire.Transcript("item", "user", "text"), 1)
    records = wire.decode(message[:-cut])
    assert next(records)[:2] == (Kind.READY, 1)
    if len(message) - cut == len(first):
        assert list(records) == []
    else:
        with pytest.raises(LinkProtocolError, match=r"ends within|truncated"):
            list(records)


@pytest.mark.parametrize("payload", [b"", b"1234567", b"123456789"])
def test_callers_audio_is_a_head_and_whole_samples(payload: bytes) -> None:
    with pytest.raises(LinkProtocolError, match="audio"):
        wire.decode_caller_audio(memoryview(payload))


@pytest.mark.parametrize("payload", [b"", b"123", b"12345"])
def test_reply_audio_is_a_head_and_whole_samples(payload: bytes) -> None:
    with pytest.raises(LinkProtocolError, match="audio"):
        wire.decode_reply_audio(memoryview(payload))


@pytest.mark.parametrize("payload", [b"", b"123", b"12345"])
def test_credit_is_four_bytes(payload: bytes) -> None:
    with pytest.raises(LinkProtocolError, match="CREDIT"):
        wire.decode_credit(memoryview(payload))


@pytest.mark.parametrize("payload", [b"", b"123", b"12345"])
def test_an_acknowledgement_is_four_bytes(payload: bytes) -> None:
    with pytest.raises(LinkProtocolError, match="ACK"):
        wire.decode_ack(memoryview(payload))


@pytest.mark.parametrize("payload", [b"", b"1234567", b"12345678\xff", b"12345678\xed\xa0\x80"])
def test_reply_text_is_a_head_and_utf_8(payload: bytes) -> None:
    with pytest.raises(LinkProtocolError, match="REPLY_TEXT"):
        wire.decode_reply_text(memoryview(payload))


@pytest.mark.parametrize("payload", [b"", b"1234567"])
def test_kept_audio_has_a_head(payload: bytes) -> None:
    with pytest.raises(LinkProtocolError, match="KEPT_AUDIO"):
        wire.decode_kept_audio(memoryview(payload))


def test_secrets_and_texts_are_hidden_in_the_repr() -> None:
    """A record that ends up in a log or an error."""
    for record in (
        wire.Open(provider_config={"api_key": "S"}),
        wire.Profile({"instructions": "S"}, {"api_key": "S"}),
        wire.ItemUpdate(item={"text": "S"}, sound="S"),
        wire.Reply(text="S"),
    ):
        assert "S" not in repr(record).replace(type(record).__name__, "")


def test_a_record_that_no_message_can_carry_is_not_made() -> None:
    longest = wire.MAX_MESSAGE_BYTES - len(wire.encode(wire.Close(""), 1))
    assert len(wire.encode(wire.Close("x" * longest), 1)) == wire.MAX_MESSAGE_BYTES
    with pytest.raises(ValueError, match="too long"):
        wire.encode(wire.Close("x" * (longest + 1)), 1)


@given(st.lists(st.tuples(controls, st.integers(0, 2**32 - 1)), max_size=5))
def test_records_come_back(records: list[tuple[Control, int]]) -> None:
    message = b"".join(wire.encode(record, channel) for record, channel in records)
    assert decode_all(message) == [(record.kind, channel, record) for record, channel in records]


@given(st.binary(max_size=200))
def test_any_bytes_are_records_or_a_link_protocol_error(message: bytes) -> None:
    with contextlib.suppress(LinkProtocolError):
        decode_all(message)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=8,
)
field_names = st.sampled_from(sorted({f.name for t in (*CONTROL_TYPES, ItemHeard) for f in dataclasses.fields(t)}))


@given(st.sampled_from(CONTROL_TYPES), st.dictionaries(field_names | words, json_values, max_size=6))
def test_any_json_object_is_a_record_or_a_link_protocol_error(
    record_type: type[Control], fields: dict[str, object]
) -> None:
    try:
        record = control(record_type, fields)
    except LinkProtocolError:
        return
    # What was taken can be sent on, and comes back.
    assert decode_all(wire.encode(record, 1)) == [(record_type.kind, 1, record)]


@given(st.integers(0, 255), st.integers(0, 2**32 - 1), st.binary(max_size=60))
def test_any_payload_is_a_record_or_a_link_protocol_error(kind: int, channel: int, payload: bytes) -> None:
    message = bytes([kind]) + channel.to_bytes(4, "big") + len(payload).to_bytes(4, "big") + payload
    (record,) = wire.decode(message)
    assert record[:2] == (kind, channel)
    with contextlib.suppress(LinkProtocolError):
        decode_payload(kind, record[2])


def test_a_position_out_of_range_is_refused() -> None:
    payload = memoryview((2**64 - 1).to_bytes(8, "big") + bytes(320))
    for decode in (wire.decode_caller_audio, wire.decode_kept_audio):
        with pytest.raises(LinkProtocolError, match="out of range"):
            decode(payload)

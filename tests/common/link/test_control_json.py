"""The JSON of control records: names of fields, and checks of their values."""

from __future__ import annotations

import dataclasses
import json
from typing import get_args

import orjson
import pytest

from common.errors import LinkProtocolError
from common.link import wire
from common.link.control_json import decode_control, encode_control, json_name
from common.link.wire import Control

CONTROL_TYPES: tuple[type[Control], ...] = get_args(Control)


def control(record_type: type[Control], fields: object) -> Control:
    return decode_control(record_type, memoryview(orjson.dumps(fields)))


@pytest.mark.parametrize(
    ("record", "fields"),
    [
        (wire.ItemUpdate("a", deleted=True), {"forgotten": True}),
        (wire.Resume(known_commands=("a",)), {"orders": ["a"]}),
    ],
)
def test_a_renamed_field_keeps_its_name_in_json(record: Control, fields: dict[str, object]) -> None:
    payload = orjson.loads(encode_control(record))
    names = [json_name(field) for field in dataclasses.fields(record)]
    assert list(payload) == names
    assert fields.items() <= payload.items()


def test_a_renamed_field_of_a_member_keeps_its_name_in_json() -> None:
    payload = orjson.loads(encode_control(wire.PendingReplies((wire.Reply(truncated=True),))))
    assert payload["replies"][0]["cut"] is True
    assert "truncated" not in payload["replies"][0]


@pytest.mark.parametrize("record_type", CONTROL_TYPES)
def test_unknown_fields_are_ignored_and_missing_ones_defaulted(record_type: type[Control]) -> None:
    assert control(record_type, {"a_new_field": {"deep": [1]}}) == record_type()


@pytest.mark.parametrize("record_type", CONTROL_TYPES)
@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b"null", b'"text"', b"1", b"\xff", b"{}{}"])
def test_a_payload_that_is_not_an_object_is_refused(record_type: type[Control], payload: bytes) -> None:
    with pytest.raises(LinkProtocolError, match=record_type.__name__):
        decode_control(record_type, memoryview(payload))


@pytest.mark.parametrize("record_type", CONTROL_TYPES)
def test_a_field_of_another_type_is_refused(record_type: type[Control]) -> None:
    wrong: dict[str, list[object]] = {
        "int": ["1", 1.0, True, None, [], -1, 2**70],
        "str": [1, None, [], {}],
        "bool": [1, 0, "true", None],
        "float": ["1", True, None, [], {}, -0.5],
        "dict[str, Any]": [[], "", None, 1],
        "dict[str, str]": [[], "", None, {"a": 1}, {"a": None}, {"a": {}}],
        "tuple[ItemHeard, ...]": [{}, "", None, [1], [None], [{"index": "1"}], [{"samples": -1}]],
        "tuple[Reply, ...]": [{}, "", None, [1], [None], [{"index": "1"}], [{"text": 1}], [{"cut": 0}]],
        "tuple[ToolFigure, ...]": [{}, "", None, [1], [None], [{"name": 1}], [{"seconds": -1}]],
        "tuple[int, ...]": [{}, "", None, ["1"], [None], [True], [-1], [2**70]],
        "tuple[str, ...]": [{}, "", None, [1], [None], [["a"]]],
    }
    for field in dataclasses.fields(record_type):
        for value in wrong[str(field.type)]:
            # Not orjson, which cannot write a number of 71 bits.
            payload = json.dumps({json_name(field): value}).encode()
            with pytest.raises(LinkProtocolError):
                decode_control(record_type, memoryview(payload))


def test_an_error_does_not_repeat_the_payload() -> None:
    with pytest.raises(LinkProtocolError) as error:
        control(wire.Transcript, {"text": ["what a caller said"]})
    assert "what a caller said" not in str(error.value)


@pytest.mark.parametrize("fields", [{"index": 2**53 + 1}, {"index": 2**64 - 1}])
def test_a_number_too_high_to_count_on_is_refused(fields: dict[str, object]) -> None:
    assert control(wire.ReplyItem, {"index": 2**53}) == wire.ReplyItem(2**53)
    with pytest.raises(LinkProtocolError, match="index"):
        control(wire.ReplyItem, fields)


def test_infinite_seconds_are_refused() -> None:
    with pytest.raises(LinkProtocolError, match="seconds"):
        control(wire.Release, {"seconds": 1e308})


def test_a_record_nested_too_deep_to_be_sent_on_is_refused() -> None:
    payload = b'{"item_id":"a","item":' + b'{"a":' * 300 + b"1" + b"}" * 301
    with pytest.raises(LinkProtocolError, match="item"):
        decode_control(wire.ItemUpdate, memoryview(payload))


@pytest.mark.parametrize(
    "value", [orjson.loads(b"[" * 101 + b"]" * 101), orjson.loads(b"[" * 300 + b"]" * 300), "\ud800"]
)
def test_a_record_that_could_not_be_read_is_not_written(value: object) -> None:
    with pytest.raises(ValueError, match="a ItemUpdate record"):
        encode_control(wire.ItemUpdate("a", item={"a": value}))

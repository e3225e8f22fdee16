"""Invalid records of the link: valid ones of each kind, altered, and in any order."""

from __future__ import annotations

import dataclasses
import struct
from typing import Any, get_args

from hypothesis import strategies as st

from common.link import wire
from common.link.wire import Kind
from tests.fuzz.inputs import as_json, bent, mutated

Record = tuple[int, bytes]
TYPES: dict[int, type[wire.Control]] = {record_type.kind: record_type for record_type in get_args(wire.Control)}
IDS = ["", "a", "b", "call_1", "item_1", "uuid-1"]
_heads = st.sampled_from([0, 1, 2, 160, 16_000, 2**31, 2**32 - 1])
_positions = st.sampled_from([0, 1, 160, 16_000, 2**32, 2**52, 2**63, 2**64 - 1])
_pcm = st.sampled_from([b"", b"\0", bytes(320), b"\x7f\x01" * 160, bytes(4000), bytes(16_000)])

_ITEMS: list[dict[str, Any]] = [
    {"text": "hello"},
    {"role": "user", "text": "hello", "text_done": True, "span": [0, 160]},
    {"role": "agent", "text": "hello there", "heard_share": 0.5, "reported": True},
    {"kind": "function_call", "call_id": "call_1", "name": "avr_hangup", "text": "{}", "started": True},
    {"kind": "function_call_output", "call_id": "call_1", "text": "done", "silent": True},
]


def _value(draw: st.DrawFn, field: dataclasses.Field[Any]) -> Any:
    """Draw a valid value for the field's type."""
    numbers = st.sampled_from([0, 1, 2, 3, 160, 16_000])
    match str(field.type):
        case "int":
            return draw(numbers)
        case "float":
            return draw(st.sampled_from([0.0, 0.2, 5.0, 1e9]))
        case "bool":
            return draw(st.booleans())
        case "str" if field.name == "reason":
            return draw(st.sampled_from([*wire.Reason, *wire.Refusal]))
        case "str" if field.name == "outcome":
            return draw(st.sampled_from([*wire.Outcome]))
        case "str" if field.name == "action":
            return draw(
                st.sampled_from([*wire.TelephonyAction, "conversation", "say", "session", "watch", "unwatch"])
            )
        case "str" if field.name == "role":
            return draw(st.sampled_from(["user", "agent"]))
        case "str" if field.name in ("digit", "digits"):
            return draw(st.sampled_from(["1", "#", "12#"]))
        case "str":
            return draw(st.sampled_from(IDS))
        case "dict[str, Any]" if field.name == "item":
            return draw(st.sampled_from(_ITEMS))
        case "tuple[ItemHeard, ...]":
            return [{"index": draw(numbers), "samples": draw(numbers)} for _ in range(draw(st.integers(0, 2)))]
        case "tuple[Reply, ...]":
            return [
                {f.name: _value(draw, f) for f in dataclasses.fields(wire.Reply)}
                for _ in range(draw(st.integers(0, 2)))
            ]
        case "tuple[str, ...]":
            return [draw(st.sampled_from(IDS))]
        case _:
            return {}


@st.composite
def controls(draw: st.DrawFn, kinds: tuple[int, ...] = tuple(TYPES)) -> Record:
    """Draw a control record with valid or invalid fields."""
    kind = draw(st.sampled_from(kinds))
    fields = {f.name: _value(draw, f) for f in dataclasses.fields(TYPES[kind])}
    payload = draw(mutated(fields)) if draw(st.integers(0, 3)) == 0 else fields
    return int(kind), as_json(payload)


@st.composite
def sounds(draw: st.DrawFn) -> Record:
    """Draw a record that is not JSON."""
    kind = draw(
        st.sampled_from(
            [Kind.CALLER_AUDIO, Kind.REPLY_AUDIO, Kind.REPLY_TEXT, Kind.KEPT_AUDIO, Kind.CREDIT, Kind.ACK]
        )
    )
    head, data = draw(_heads), draw(_pcm)
    match kind:
        case Kind.CALLER_AUDIO | Kind.KEPT_AUDIO:
            payload = struct.pack("!Q", draw(_positions)) + data
        case Kind.REPLY_AUDIO:
            payload = struct.pack("!I", head) + data
        case Kind.REPLY_TEXT:
            payload = struct.pack("!II", head, draw(_heads)) + draw(st.sampled_from([b"", b"text", b"\xff"]))
        case _:
            payload = struct.pack("!I", head)
    return int(kind), payload


@st.composite
def _bent_records(draw: st.DrawFn) -> Record:
    kind, payload = draw(controls() | sounds())
    return kind, draw(bent(payload))


def records(*kinds: int) -> st.SearchStrategy[Record]:
    """Return records of any kind; if kinds are named, half of the control records have these."""
    wanted = controls(tuple(kinds)) if kinds else controls()
    garbage = st.tuples(st.integers(0, 255), st.binary(max_size=24))
    return st.one_of(wanted, wanted, controls(), sounds(), _bent_records(), garbage)

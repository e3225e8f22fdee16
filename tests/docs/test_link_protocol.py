"""docs/link-protocol.md against the code: records, numbers, fields, layouts and figures."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Final, get_args

import pytest

from common.link import link_end, retransmit_buffer, wire
from common.link.wire import Kind
from tests.docs.blocks import document
from worker.session import truncation

PAGE: Final = document("link-protocol.md")
ROWS: Final = re.findall(r"^\| (\d+) \| ([A-Z_]+) \| ([→←↔]) \| (.+?) \| .+ \|$", PAGE, re.MULTILINE)
RECORDS: Final[dict[Kind, type[Any]]] = {record.kind: record for record in get_args(wire.Control)}
TYPES: Final = {
    "tuple[int, ...]": "list of int",
    "tuple[str, ...]": "list of str",
    "dict[str, str]": "object of str",
    "dict[str, Any]": "object",
}
MEMBERS: Final[dict[str, type[Any]]] = {
    "tuple[ItemHeard, ...]": wire.ItemHeard,
    "tuple[Reply, ...]": wire.Reply,
    "tuple[ToolFigure, ...]": wire.ToolFigure,
}
LAYOUTS: Final = {
    "CALLER_AUDIO": (wire.encode_caller_audio(1, 7, b"ab"), 8),
    "REPLY_AUDIO": (wire.encode_reply_audio(1, 7, b"ab"), 4),
    "REPLY_TEXT": (wire.encode_reply_text(1, 7, 8, "ab"), 8),
    "KEPT_AUDIO": (wire.encode_kept_audio(1, 7, b"ab"), 8),
    "CREDIT": (wire.encode_credit(1, 7), 4),
    "ACK": (wire.encode_ack(1, 7), 4),
}


def _fields(record: type[Any]) -> str:
    shown = []
    for field in dataclasses.fields(record):
        annotation = str(field.type)
        members = MEMBERS.get(annotation)
        known = f"list of ({_fields(members)})" if members else TYPES.get(annotation, annotation)
        shown.append(f"`{wire.json_name(field)}` {known}")
    return ", ".join(shown)


def test_page_has_each_kind_once_and_no_other() -> None:
    assert {name: int(number) for number, name, _, _ in ROWS} == {kind.name: kind.value for kind in Kind}
    assert len(ROWS) == len(Kind)


@pytest.mark.parametrize(("name", "payload"), [(name, payload) for _, name, _, payload in ROWS])
def test_row_has_the_fields_of_its_record(name: str, payload: str) -> None:
    record = RECORDS.get(Kind[name])
    assert payload == (_fields(record) if record else "binary")


@pytest.mark.parametrize("name", [kind.name for kind in Kind if kind not in RECORDS])
def test_layout_of_a_binary_record(name: str) -> None:
    encoded, head_bytes = LAYOUTS[name]
    ((kind, _, payload),) = wire.decode(encoded)
    assert kind == Kind[name]
    rows = re.findall(rf"^\| {name} \| (\d+) (?:to (\d+)|and more) \|", PAGE, re.MULTILINE)
    ends = [int(end) + 1 for _, end in rows if end]
    starts = [int(start) for start, _ in rows]
    assert starts == [0, *ends][: len(starts)]
    assert ends[-1] == head_bytes
    assert (len(payload) > head_bytes) == (len(starts) > len(ends))


def test_uncounted_kinds_are_named() -> None:
    (named,) = re.findall(r"kinds are not counted: (.+?)\.", PAGE)
    assert set(re.split(r", | and ", named)) == {kind.name for kind in wire.UNCOUNTED}


def test_reasons_of_a_refusal_are_those_of_the_code() -> None:
    table = PAGE.partition("| reason | when |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == [reason.value for reason in wire.Refusal]


@pytest.mark.parametrize(
    "figure",
    [
        f"protocol {wire.PROTOCOL_VERSION}.",
        f"oldest is {wire.OLDEST_PROTOCOL_VERSION} in",
        f"({wire.MAX_MESSAGE_BYTES:,} bytes)",
        f"of OPENED, {wire.CALLER_CREDIT_BYTES:,} bytes",
        f"of OPEN: {wire.REPLY_CREDIT_BYTES:,} bytes",
        f"at least {wire.CREDIT_STEP_BYTES:,} bytes",
        f"after {retransmit_buffer.ACK_RECORDS} records or {retransmit_buffer.ACK_BYTES:,} bytes",
        f"{retransmit_buffer.MAX_KEPT_RECORDS:,} records or {retransmit_buffer.MAX_KEPT_BYTES:,} bytes",
        f"ping every {link_end.LINK_LIMITS.ping_interval_seconds:g} s",
        f"no byte for {link_end.LINK_LIMITS.silence_timeout_seconds:g} s",
        f"greeting has {link_end.HELLO_SECONDS:g} s at the worker",
        f"may send {link_end.LINK_LIMITS.stranger_bytes:,} bytes",
        f"at most {link_end.MAX_HELLO_FIELD_CHARS} characters",
        f"`{truncation.MARK.strip()}`",
    ],
)
def test_figure_is_that_of_the_code(figure: str) -> None:
    assert figure in re.sub(r"\s+", " ", PAGE)

"""A tool's arguments in one line."""

from __future__ import annotations

from typing import Any

import pytest

from worker.tools.signature import MAX_ARGUMENTS, signature

TEXT = {"type": "string"}


@pytest.mark.parametrize(
    ("parameters", "shown"),
    [
        ({"type": "object", "properties": {}}, "look_up()"),
        ({"type": "object"}, "look_up()"),
        (
            {"properties": {"day": TEXT, "week": {"type": "integer"}}, "required": ["day"]},
            "look_up(day: string, [week: integer])",
        ),
        ({"properties": {"day": {"type": ["string", "null"]}}, "required": []}, "look_up([day: string|null])"),
        ({"properties": {"day": {"enum": ["a"]}, "odd": True}, "required": ["day", "odd"]}, "look_up(day, odd)"),
        ({"properties": "none", "required": "day"}, "look_up()"),
    ],
)
def test_signature_has_each_argument(parameters: dict[str, Any], shown: str) -> None:
    assert signature({"name": "look_up", "parameters": parameters}) == shown


def test_many_arguments_are_truncated() -> None:
    properties = {f"a{number}": TEXT for number in range(MAX_ARGUMENTS + 5)}
    shown = signature({"name": "x", "parameters": {"properties": properties}})
    assert shown.endswith(", ...)")
    assert shown.count("string") == MAX_ARGUMENTS

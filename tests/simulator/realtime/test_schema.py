from __future__ import annotations

from typing import Any

import pytest

from simulator.realtime.errors import RequestError
from simulator.realtime.schema import (
    Check,
    array,
    boolean,
    closed,
    either,
    mapping,
    nullable,
    number,
    one_of,
    string,
)


def _refusal(check: Check, value: Any) -> str | None:
    try:
        check(value, "field")
    except RequestError as error:
        return error.code
    return None


@pytest.mark.parametrize(
    ("check", "right", "wrong"),
    [
        (
            string(3),
            ["", "abc"],
            [("abcd", "string_above_max_length"), (1, "invalid_type"), (None, "invalid_type")],
        ),
        (boolean, [True, False], [(1, "invalid_type"), ("true", "invalid_type")]),
        (
            number(0, 1),
            [0, 1, 0.5],
            [(-0.1, "decimal_below_min_value"), (1.1, "decimal_above_max_value"), (True, "invalid_type")],
        ),
        (
            number(1, 3, integer=True),
            [1, 3],
            [(0, "integer_below_min_value"), (4, "integer_above_max_value"), (2.0, "invalid_type")],
        ),
        (one_of("a", 5), ["a", 5], [("b", "invalid_value"), (None, "invalid_value"), (True, "invalid_value")]),
        (nullable(boolean), [None, True], [(0, "invalid_type")]),
        (
            array(boolean, max_length=2),
            [[], [True, False]],
            [([True] * 3, "array_above_max_length"), ({}, "invalid_type")],
        ),
        (mapping(boolean), [{}, {"a": True}], [({"a": 1}, "invalid_type"), ([], "invalid_type")]),
        (
            either((int, number(0, 9, integer=True)), (str, one_of("inf")), expected="x"),
            [3, "inf"],
            [
                ("all", "invalid_value"),
                (10, "integer_above_max_value"),
                (True, "invalid_type"),
                (None, "invalid_type"),
            ],
        ),
        (
            closed({"a": boolean}, required=("a",)),
            [{"a": True}],
            [({}, "missing_required_parameter"), ({"a": True, "b": 1}, "unknown_parameter"), ([], "invalid_type")],
        ),
    ],
)
def test_check_accepts_valid_values_and_names_invalid_ones(
    check: Check, right: list[Any], wrong: list[tuple[Any, str]]
) -> None:
    assert [_refusal(check, value) for value in right] == [None] * len(right)
    assert [_refusal(check, value) for value, _ in wrong] == [code for _, code in wrong]


def test_an_error_deep_inside_is_named_by_its_whole_path() -> None:
    check = closed({"list": array(closed({"map": mapping(boolean)}), max_length=5)})
    with pytest.raises(RequestError) as refused:
        check({"list": [{}, {"map": {"key": 1}}]}, "session")
    assert refused.value.param == "session.list[1].map.key"

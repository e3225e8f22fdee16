from __future__ import annotations

from typing import Any

import orjson
import pytest

from common.net.json_depth import MAX_LEVELS, MAX_RECORD_LEVELS, TooDeep, is_too_deep, read


def within(levels: int, *, as_list: bool) -> Any:
    value: Any = {"b": 1} if not as_list else [1]
    for _ in range(levels - 1):
        value = [value] if as_list else {"a": value, "b": 1}
    return value


@pytest.mark.parametrize("as_list", [True, False])
@pytest.mark.parametrize("max_levels", [MAX_LEVELS, MAX_RECORD_LEVELS])
def test_levels_are_counted_exactly(as_list: bool, max_levels: int) -> None:
    assert not is_too_deep(within(max_levels, as_list=as_list), max_levels)
    assert is_too_deep(within(max_levels + 1, as_list=as_list), max_levels)


@pytest.mark.parametrize("value", [None, 1, "text", {}, [], {"a": [1, {"b": "c"}]}])
def test_common_values_are_shallow(value: object) -> None:
    assert not is_too_deep(value)


def test_an_accepted_value_can_be_written() -> None:
    orjson.dumps([[within(MAX_RECORD_LEVELS, as_list=True)]])


@pytest.mark.parametrize("levels", [MAX_LEVELS + 1, 300, 1025, 100_000])
@pytest.mark.parametrize("begin", ["[", '{"a":'])
def test_json_that_is_too_deep_is_refused_by_its_levels(levels: int, begin: str) -> None:
    end = "]" if begin == "[" else "}"
    with pytest.raises(TooDeep, match=f"deeper than {MAX_LEVELS} levels"):
        read(begin * levels + "1" + end * levels)


def test_json_of_just_the_limit_is_read() -> None:
    text = "[" * MAX_LEVELS + "1" + "]" * MAX_LEVELS
    assert read(text) == within(MAX_LEVELS, as_list=True)


def test_invalid_json_is_an_error_of_its_own() -> None:
    with pytest.raises(orjson.JSONDecodeError):
        read("[1")

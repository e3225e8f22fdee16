from __future__ import annotations

from typing import Any

import orjson
import pytest

from common.nesting import MAX_LEVELS, is_too_deep


def within(levels: int, *, as_list: bool) -> Any:
    value: Any = {} if not as_list else []
    for _ in range(levels - 1):
        value = [value] if as_list else {"a": value, "b": 1}
    return value


@pytest.mark.parametrize("as_list", [True, False])
def test_levels_are_counted(as_list: bool) -> None:
    assert not is_too_deep(within(MAX_LEVELS, as_list=as_list))
    assert is_too_deep(within(MAX_LEVELS + 10, as_list=as_list))


@pytest.mark.parametrize("value", [None, 1, "text", {}, [], {"a": [1, {"b": "c"}]}])
def test_what_anybody_would_send_is_shallow(value: object) -> None:
    assert not is_too_deep(value)


def test_what_is_not_too_deep_can_be_written() -> None:
    orjson.dumps([[within(MAX_LEVELS, as_list=True)]])

"""A call's memory, where what it is given is odd."""

from __future__ import annotations

import orjson
import pytest

from common import link
from dispatcher.memory import CallMemory


def test_an_item_that_is_to_follow_itself_comes_last() -> None:
    memory = CallMemory()
    memory.remember(link.Remember("a", item={"text": "x"}), 10)
    memory.remember(link.Remember("b", "b", item={"text": "y"}), 10)
    assert memory.order == ["a", "b"]


def test_an_item_that_is_stored_twice_is_one() -> None:
    memory = CallMemory.from_stored({"order": '["a","a","b"]', "item:a": "{}", "item:b": "{}"})
    assert memory is not None
    assert memory.order == ["a", "b"]
    memory.remember(link.Remember("a", forgotten=True), 0)
    assert memory.order == ["b"]


def test_ids_are_text_again() -> None:
    memory = CallMemory.from_stored({"order": "[1]", "item:1": "{}"})
    assert memory is not None
    (record,) = memory.records()
    link.encode(record, 1)
    assert memory.order == ["1"]


@pytest.mark.parametrize("field", ["profile", "item:a"])
def test_what_could_not_be_sent_on_is_no_memory(field: str) -> None:
    deep = "[" * 300 + "]" * 300
    assert CallMemory.from_stored({"order": '["a"]', field: f'{{"text":{deep}}}'}) is None
    assert CallMemory.from_stored({"order": '["a"]', field: orjson.dumps({"text": [[1]]}).decode()}) is not None

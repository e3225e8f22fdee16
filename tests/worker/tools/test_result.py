from __future__ import annotations

import datetime
import json
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.tools.result import MAX_OUTPUT_BYTES, bounded, render


def test_string_result_is_unchanged() -> None:
    assert render('It\'s 21 °C, "sunny"\n') == 'It\'s 21 °C, "sunny"\n'


@dataclass
class Weather:
    celsius: float


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "null"),
        (True, "true"),
        (21.5, "21.5"),
        (["a", 1], '["a",1]'),
        ({"a": {1: None}}, '{"a":{"1":null}}'),
        (Weather(21.5), '{"celsius":21.5}'),
        (datetime.date(2026, 11, 21), '"2026-11-21"'),
    ],
)
def test_other_results_are_json(value: object, told: str) -> None:
    assert render(value) == told
    json.loads(told)


def test_result_other_than_json_is_refused() -> None:
    with pytest.raises(TypeError):
        render(object())
    itself: list[object] = []
    itself.append(itself)
    with pytest.raises(TypeError):
        render(itself)


def test_result_at_the_limit_is_not_truncated() -> None:
    assert bounded("x" * MAX_OUTPUT_BYTES) == "x" * MAX_OUTPUT_BYTES


@given(st.sampled_from("xé€😀"), st.integers(0, 3), st.integers(1, 3 * MAX_OUTPUT_BYTES))
def test_longer_result_is_truncated_between_characters(character: str, shift: int, length: int) -> None:
    text = "." * shift + character * length
    told = bounded(text)
    assert len(told.encode()) <= MAX_OUTPUT_BYTES
    if len(text.encode()) <= MAX_OUTPUT_BYTES:
        assert told == text
    else:
        kept, note = told.split("\n")
        assert text.startswith(kept)
        assert "cut" in note
        assert len(told.encode()) > MAX_OUTPUT_BYTES - len(character.encode())


def test_characters_outside_utf_8_are_replaced() -> None:
    assert bounded("a\ud800b") == "a?b"

from __future__ import annotations

from typing import Any

import pytest

from simulator.realtime.errors import RequestError
from simulator.realtime.functions import check_parameters
from tests.simulator.realtime_driver import Driver, error_of, kinds


def _refusal(schema: dict[str, Any]) -> RequestError | None:
    try:
        check_parameters("find", schema, "session.tools[0].parameters")
    except RequestError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("schema", "context"),
    [
        ({"properties": {"tags": {"type": "array"}}}, "('properties', 'tags')"),
        ({"properties": {"tags": {"type": ["array", "null"]}}}, "('properties', 'tags')"),
        (
            {"properties": {"rows": {"type": "array", "items": {"type": "array"}}}},
            "('properties', 'rows', 'items')",
        ),
        ({"$defs": {"row": {"type": "array"}}}, "('$defs', 'row')"),
        ({"properties": {"one": {"anyOf": [{"type": "array"}]}}}, "('properties', 'one', 'anyOf', '0')"),
    ],
)
def test_array_without_items_is_refused(schema: dict[str, Any], context: str) -> None:
    error = _refusal({"type": "object", **schema})
    assert error is not None
    assert str(error) == (f"Invalid schema for function 'find': In context={context}, array schema missing items.")
    assert (error.code, error.param) == ("invalid_function_parameters", "session.tools[0].parameters")


@pytest.mark.parametrize("keyword", ["anyOf", "oneOf", "allOf", "enum", "not"])
def test_keyword_at_the_top_level_is_refused(keyword: str) -> None:
    error = _refusal({"type": "object", keyword: []})
    assert error is not None
    assert "at the top level" in str(error)


def test_keyword_below_the_top_level_is_accepted() -> None:
    inner = {"anyOf": [{"type": "string"}], "enum": ["a"], "not": {}}
    assert _refusal({"type": "object", "properties": {"a": inner, "b": {"type": "array", "items": {}}}}) is None


def test_session_with_one_bad_tool_is_refused_whole() -> None:
    driver = Driver()
    tools = [
        {"type": "function", "name": "good", "parameters": {"type": "object"}},
        {"type": "function", "name": "bad", "parameters": {"properties": {"tags": {"type": "array"}}}},
    ]
    error = error_of(driver.update(instructions="Hi!", tools=tools))
    assert error["param"] == "session.tools[1].parameters"
    assert driver.session.config.session["tools"] == []
    assert kinds(driver.update(tools=tools[:1])) == ["session.updated"]


def test_long_description_is_refused_by_its_path() -> None:
    tool = {"type": "function", "name": "find", "description": "x" * 2473}
    error = error_of(Driver().update(tools=[tool]))
    assert (error["code"], error["param"]) == ("string_above_max_length", "session.tools[0].description")


@pytest.mark.parametrize(("language", "accepted"), [("pt", True), ("pt-BR", False), ("auto", False)])
def test_transcription_language_has_no_region(language: str, accepted: bool) -> None:
    events = Driver().update(audio={"input": {"transcription": {"model": "whisper-1", "language": language}}})
    if accepted:
        assert kinds(events) == ["session.updated"]
    else:
        error = error_of(events)
        assert error["param"] == "session.audio.input.transcription.language"
        assert "'pt'" in error["message"]

from __future__ import annotations

from typing import Any

import pytest
from openai.types.realtime import RealtimeFunctionTool

from worker.tools.definition import MAX_DEFINITION_BYTES, Definition
from worker.tools.errors import BadTool

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def test_a_definition_is_one_of_openais_function_tools() -> None:
    function = Definition.parse("get_weather", "The weather", SCHEMA, None).function
    model = RealtimeFunctionTool.model_validate(function, strict=True)
    assert not model.model_extra
    assert function == {
        "type": "function",
        "name": "get_weather",
        "description": "The weather",
        "parameters": SCHEMA,
    }


@pytest.mark.parametrize("schema", [None, {}, {"type": "object"}, {"properties": {}}])
def test_a_tool_without_arguments_takes_an_empty_object(schema: object) -> None:
    assert Definition.parse("tool", None, schema, None).function == {
        "type": "function",
        "name": "tool",
        "description": "",
        "parameters": {"type": "object", "properties": {}},
    }


def test_definition_is_a_copy_of_the_files_schema() -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"city": {"enum": ["Rome"]}}}
    definition = Definition.parse("tool", "", schema, None)
    schema["properties"]["city"]["enum"].append("Paris")
    assert definition.parameters["properties"]["city"]["enum"] == ["Rome"]


@pytest.mark.parametrize(("given", "meant"), [(None, False), (False, False), (True, True)])
def test_only_a_declared_tool_is_idempotent(given: object, meant: bool) -> None:
    assert Definition.parse("tool", "", {}, given).idempotent is meant


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": None}, "name is missing"),
        ({"name": 7}, "name is 7"),
        ({"name": ""}, "name is ''"),
        ({"name": "get weather"}, "name is 'get weather'"),
        ({"name": "wetter_für_morgen"}, "name is"),
        ({"name": "get_weather\n"}, "name is"),
        ({"name": "x" * 65}, "name is"),
        ({"description": ["The weather"]}, "description is"),
        ({"description": "x" * MAX_DEFINITION_BYTES}, "longer than"),
        ({"input_schema": "object"}, "input_schema is 'object'"),
        ({"input_schema": {"type": "string"}}, "type 'string'"),
        ({"input_schema": {"properties": {"a": object()}}}, "not JSON"),
        ({"input_schema": {"properties": {"a": "\ud800"}}}, "not JSON"),
        ({"idempotent": "yes"}, "idempotent is 'yes'"),
    ],
)
def test_invalid_attribute_is_named_in_one_line(change: dict[str, object], said: str) -> None:
    given: dict[str, object] = {"name": "tool", "description": "", "input_schema": {}, "idempotent": None}
    with pytest.raises(BadTool, match=said) as refused:
        Definition.parse(**(given | change))
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500


def test_a_name_may_have_64_characters() -> None:
    assert Definition.parse("x" * 64, "", {}, None).name == "x" * 64


def test_schema_is_changed_for_the_api_and_kept_for_checks() -> None:
    schema = {
        "properties": {"list": {"type": "array"}},
        "anyOf": [{"required": ["list"]}, {"required": ["other"]}],
    }
    definition = Definition.parse("tool", "long " * 500, schema, None)
    assert definition.function == {
        "type": "function",
        "name": "tool",
        "description": definition.function["description"],
        "parameters": {"type": "object", "properties": {"list": {"type": "array", "items": {}}}},
    }
    assert len(definition.function["description"]) <= 1024
    assert [change.field for change in definition.changes] == ["description", "parameters", "parameters.list"]
    # The model's arguments are checked against the author's schema.
    assert definition.parameters == {"type": "object"} | schema


def test_schema_that_the_api_never_accepts_is_refused() -> None:
    with pytest.raises(
        BadTool, match="the API would refuse it: it must have parameters of the type object"
    ) as refused:
        Definition.parse("tool", "", {"anyOf": [{"type": "string"}]}, None)
    assert "\n" not in str(refused.value)

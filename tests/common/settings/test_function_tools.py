"""Tools that OpenAI's API would refuse a session for."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from common.settings.function_tools import (
    MARK,
    MAX_DESCRIPTION_CHARACTERS,
    MAX_TOOL_BYTES,
    NAME,
    Change,
    by_tool,
    mend,
    mend_all,
    truncate_at_word,
)

STRING = {"type": "string"}


def tool(parameters: object, **more: Any) -> dict[str, Any]:
    return {"type": "function", "name": "look_up", "description": "d", "parameters": parameters} | more


def parameters_of(schema: object) -> dict[str, Any]:
    mended, _ = mend(tool(schema))
    parameters: dict[str, Any] = mended["parameters"]
    return parameters


def refused(parameters: dict[str, Any]) -> str:
    """Return the API's error for parameters that it refuses; empty for others. Written from the sources alone."""
    if parameters.get("type") != "object":
        return "schema must have type 'object'"
    if {"oneOf", "anyOf", "allOf", "enum", "const", "not"} & parameters.keys():
        return "not have 'oneOf'/'anyOf'/'allOf'/'enum'/'const'/'not' at the top level"
    if "properties" not in parameters:
        return "object schema missing properties"
    return _missing_items(parameters)


def _missing_items(value: object) -> str:
    if isinstance(value, list):
        return next((said for each in value if (said := _missing_items(each))), "")
    if not isinstance(value, dict):
        return ""
    kind = value.get("type")
    is_array = kind == "array" or (isinstance(kind, list) and "array" in kind)
    if is_array and not isinstance(value.get("items"), dict):
        return "array schema missing items"
    return next((said for each in value.values() if (said := _missing_items(each))), "")


# What stays as it is


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {}},
        {"type": "object", "properties": {"city": STRING}, "required": ["city"], "additionalProperties": False},
        {"type": "object", "properties": {"a": {"type": "array", "items": STRING}, "b": {"anyOf": [STRING]}}},
        # Names of properties are no keywords, and values are no schemas.
        {"type": "object", "properties": {"anyOf": STRING, "type": STRING, "enum": {"enum": [{"type": "array"}]}}},
        {"type": "object", "properties": {"a": {"default": {"type": "array"}, "examples": [{"type": "array"}]}}},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": STRING}},
    ],
)
def test_a_tool_that_the_api_accepts_stays_the_same(schema: dict[str, Any]) -> None:
    given_tool = tool(schema)
    before = copy.deepcopy(given_tool)
    assert mend(given_tool) == (before, [])
    assert given_tool == before


def test_a_tool_without_parameters_stays_the_same() -> None:
    for given_tool in ({"type": "function", "name": "a"}, {"type": "function", "name": "a", "parameters": None}):
        assert mend(given_tool) == (given_tool, [])


# Arrays


@pytest.mark.parametrize(
    ("array", "mended"),
    [
        ({"type": "array"}, {"type": "array", "items": {}}),
        ({"type": ["array", "null"]}, {"type": ["array", "null"], "items": {}}),
        ({"type": "array", "items": True}, {"type": "array", "items": {}}),
        ({"type": "array", "items": None}, {"type": "array", "items": {}}),
        ({"type": "array", "items": []}, {"type": "array", "items": {}}),
        (
            {"type": "array", "items": [STRING, {"type": "array"}]},
            {"type": "array", "items": {"anyOf": [STRING, {"type": "array", "items": {}}]}},
        ),
        ({"type": "array", "prefixItems": [STRING]}, {"type": "array", "prefixItems": [STRING], "items": {}}),
    ],
)
def test_an_array_without_items_gets_them(array: dict[str, Any], mended: dict[str, Any]) -> None:
    schema = {"type": "object", "properties": {"list": array}}
    before = copy.deepcopy(schema)
    made, changes = mend(tool(schema))
    assert made["parameters"]["properties"]["list"] == mended
    assert [(change.tool, change.field, change.done) for change in changes] == [
        ("look_up", changes[0].field, "items added to an array")
    ]
    assert changes[0].field.startswith("parameters.list")
    assert schema == before


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"type": "array", "items": {"type": "array"}}}},
        {"properties": {"a": {"type": "object", "properties": {"b": {"type": "array"}}}}},
        {"properties": {"a": {"anyOf": [STRING, {"type": "array"}]}}},
        {"properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"type": "array"}}},
        {"properties": {}, "additionalProperties": {"type": "array"}},
        {"properties": {}, "patternProperties": {"^x": {"type": "array"}}},
    ],
)
def test_nested_arrays_without_items_get_them(schema: dict[str, Any]) -> None:
    assert refused({"type": "object"} | schema) == "array schema missing items"
    assert refused(parameters_of({"type": "object"} | schema)) == ""


# The top of the parameters


def test_a_missing_type_is_added() -> None:
    made, changes = mend(tool({"properties": {"a": STRING}}))
    assert made["parameters"] == {"type": "object", "properties": {"a": STRING}}
    assert changes == [Change("look_up", "parameters.type", "object added")]
    assert parameters_of({"type": ["object", "null"]}) == {"type": "object", "properties": {}}


def test_all_of_is_merged() -> None:
    schema = {
        "allOf": [
            {"type": "object", "properties": {"a": STRING}, "required": ["a"]},
            {"type": "object", "properties": {"b": STRING}, "required": ["b"], "additionalProperties": False},
        ]
    }
    made, changes = mend(tool(schema))
    assert made["parameters"] == {
        "type": "object",
        "properties": {"a": STRING, "b": STRING},
        "required": ["a", "b"],
    }
    assert str(changes[0]) == "parameters: allOf at the top replaced by one object"


@pytest.mark.parametrize("word", ["anyOf", "oneOf"])
def test_alternatives_become_one_object(word: str) -> None:
    schema = {
        word: [
            {
                "type": "object",
                "properties": {"mode": {"const": "a"}, "id": STRING, "x": STRING},
                "required": ["mode", "id", "x"],
                "additionalProperties": False,
            },
            {
                "type": "object",
                "properties": {"mode": {"enum": ["b"]}, "id": {"type": "integer"}, "y": STRING},
                "required": ["id", "mode"],
                "additionalProperties": False,
            },
            {"type": "null"},
        ]
    }
    assert parameters_of(schema) == {
        "type": "object",
        "properties": {
            "mode": {"enum": ["a", "b"]},
            "id": {"anyOf": [STRING, {"type": "integer"}]},
            "x": STRING,
            "y": STRING,
        },
        "required": ["mode", "id"],
        "additionalProperties": False,
    }


def test_alternatives_of_required_keep_the_properties() -> None:
    properties = {"mail": STRING, "phone": STRING}
    schema = {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "anyOf": [{"required": ["mail"]}, {"required": ["phone"]}],
    }
    assert parameters_of(schema) == {"type": "object", "properties": properties, "additionalProperties": False}


@pytest.mark.parametrize("dropped", [{"not": {"required": ["b"]}}, {"enum": [{"a": "x"}]}, {"const": {"a": "x"}}])
def test_a_limit_that_the_api_refuses_is_dropped(dropped: dict[str, Any]) -> None:
    schema = {"type": "object", "properties": {"a": STRING}}
    made, changes = mend(tool(schema | dropped))
    assert made["parameters"] == schema
    assert str(changes[0]) == f"parameters: {next(iter(dropped))} at the top replaced by one object"


def test_a_reference_at_the_top_is_followed() -> None:
    point = {"type": "object", "properties": {"x": STRING}, "required": ["x"]}
    schema = {"$ref": "#/$defs/a~1b", "$defs": {"a/b": point}}
    assert parameters_of(schema) == point | {"$defs": {"a/b": point}}


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ("text", "an object as its parameters"),
        ({"type": "string"}, "type object"),
        ({"type": ["string", "null"]}, "type object"),
        ({"anyOf": [STRING, {"type": "null"}]}, "type object"),
        ({"anyOf": []}, "type object"),
        ({"anyOf": "x"}, "alternatives"),
        ({"anyOf": [{}] * 100}, "alternatives"),
        ({"allOf": [{"type": "array"}]}, "type object"),
        ({"allOf": [True]}, "parts are objects"),
        ({"$ref": "#"}, "elsewhere"),
        ({"$ref": "https://example.com/schema"}, "elsewhere"),
        ({"$ref": "#/$defs/none"}, "nothing"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "fewer references"),
        ({"properties": {"a": {"description": "x" * MAX_TOOL_BYTES}}}, "longer"),
        ({"properties": {"a": {"description": "\ud800"}}}, "JSON"),
    ],
)
def test_a_tool_that_cannot_be_mended_is_refused(schema: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        mend(tool(schema))


def test_parameters_that_are_too_deep_are_refused() -> None:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(200):
        schema = {"type": "object", "properties": {"a": schema}}
    with pytest.raises(ValueError, match="deeply nested"):
        mend(tool(schema))


def test_references_that_branch_end_soon() -> None:
    definitions: dict[str, Any] = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 8} for i in range(7)}
    definitions["d7"] = {"type": "object"}
    with pytest.raises(ValueError, match="fewer references"):
        mend(tool({"$ref": "#/$defs/d0", "$defs": definitions}))


def test_many_schemas_of_one_property_stay_flat() -> None:
    kinds = [{"maxLength": length} for length in range(60)]
    inner = {"allOf": [{"properties": {"a": kind}} for kind in kinds[30:]]}
    schema = {"allOf": [*({"properties": {"a": kind}} for kind in kinds[:30]), inner]}
    assert parameters_of(schema)["properties"]["a"] == {"allOf": [*kinds[:30], {"allOf": kinds[30:]}]}


# Names and descriptions


@pytest.mark.parametrize("name", [None, 7, "", "a b", "ä", "x" * 65, "a\n"])
def test_a_wrong_name_is_refused(name: object) -> None:
    with pytest.raises(ValueError, match="name"):
        mend(tool({}, name=name))


def test_a_long_description_is_truncated_at_a_word() -> None:
    made, changes = mend(tool({"type": "object", "properties": {}}, description="word " * 494 + "end"))
    assert len(made["description"]) <= MAX_DESCRIPTION_CHARACTERS
    assert made["description"].endswith("word" + MARK)
    assert changes == [Change("look_up", "description", "truncated from 2473 to 1024 characters at most")]


@given(st.text(min_size=1), st.integers(10, 60))
def test_a_truncated_text_fits_and_begins_the_same(text: str, limit: int) -> None:
    cut = truncate_at_word(text, limit)
    assert len(cut) <= limit
    assert cut == text or (cut.endswith(MARK) and text.startswith(cut.removesuffix(MARK)))


def test_a_text_without_spaces_is_truncated_anyway() -> None:
    assert truncate_at_word("x" * 100, 20) == "x" * 16 + MARK
    assert truncate_at_word("x " + "y" * 100, 20) == "x " + "y" * 14 + MARK


# All tools of a session


def test_wrong_tools_are_left_out_and_others_stay() -> None:
    mcp = {"type": "mcp", "server_label": "crm"}
    tools = [
        tool({"type": "string"}, name="bad"),
        mcp,
        tool({"type": "object"}, name="good"),
        "odd",
        {"name": "n m"},
    ]
    made, changes = mend_all(tools)
    assert made == [mcp, tool({"type": "object", "properties": {}}, name="good"), "odd"]
    assert [(change.tool, str(change)) for change in changes] == [
        ("bad", "left out, because it must have parameters of the type object"),
        ("n m", "left out, because it must have a name of 1 to 64 letters, digits, _ and -"),
    ]


def test_the_changes_of_a_tool_share_one_line() -> None:
    parameters = {"properties": {name: {"type": "array"} for name in "abcde"}}
    _, changes = mend_all([tool(parameters, description="x " * 999), tool({}, name="b c")])
    assert by_tool(changes) == {
        "look_up": "description: truncated from 1998 to 1024 characters at most; parameters.type: object added; "
        "parameters.a, parameters.b, parameters.c and 2 more: items added to an array",
        "b c": "left out, because it must have a name of 1 to 64 letters, digits, _ and -",
    }


# Whatever authors write

_leaves = st.sampled_from([STRING, {"type": "integer"}, {"type": "array"}, {"const": 1}, {"enum": [1, "a"]}, {}])


def _objects(inner: st.SearchStrategy[Any], *, closed: bool = False) -> st.SearchStrategy[Any]:
    properties = st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    optional = {
        "properties": properties,
        "required": st.lists(st.sampled_from("abc"), max_size=2, unique=True),
        "type": st.sampled_from(["object", ["object", "null"]]),
        "not": properties.map(lambda named: {"type": "object", "properties": named, "required": ["a"]}),
        **{word: st.lists(inner, min_size=1, max_size=3) for word in ("anyOf", "oneOf", "allOf")},
        "items": inner,
    }
    others = {"additionalProperties": st.just(False) if closed else st.sampled_from([False, True, STRING])}
    return st.fixed_dictionaries(others if closed else {}, optional=optional if closed else optional | others)


_schemas = st.recursive(_leaves, _objects, max_leaves=12)
_closed_schemas = st.recursive(_leaves, lambda inner: _objects(inner, closed=True), max_leaves=12)
_arguments = st.dictionaries(
    st.sampled_from("abcd"), st.sampled_from([1, "a", "x", [], [1], {}, {"a": 1}, None]), max_size=4
)


@given(_objects(_schemas))
def test_mended_schemas_are_accepted(schema: dict[str, Any]) -> None:
    try:
        mended = parameters_of(schema)
    except ValueError:
        return
    assert refused(mended) == ""
    Draft202012Validator.check_schema(mended)


@given(_objects(_closed_schemas, closed=True), st.lists(_arguments, max_size=8))
def test_mended_schemas_of_closed_objects_are_never_narrower(
    schema: dict[str, Any], arguments: list[dict[str, Any]]
) -> None:
    try:
        mended = parameters_of(schema)
    except ValueError:
        return
    author, sent = Draft202012Validator(schema), Draft202012Validator(mended)
    for each in arguments:
        assert sent.is_valid(each) or not author.is_valid(each), each


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "anyOf", "allOf", "$ref", "items", "properties", "required", "$defs", "x"]),
            inner,
        )
    ),
)


@given(json_values, st.text(max_size=5))
def test_nothing_breaks_the_mending(parameters: object, name: str) -> None:
    made, changes = mend_all([{"name": name, "parameters": parameters}])
    assert len(made) + sum(not change.field for change in changes) == 1
    assert not made or NAME.fullmatch(made[0]["name"])

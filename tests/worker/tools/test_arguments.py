from __future__ import annotations

from typing import Any

import pytest

from worker.tools.arguments import MAX_ARGUMENTS_CHARACTERS, MAX_PROBLEMS, check, parse
from worker.tools.definition import Definition
from worker.tools.errors import InvalidArguments


def checked(arguments: dict[str, Any], **schema: Any) -> None:
    check(arguments, Definition.parse("tool", "", {"type": "object", **schema}, None).validator)


@pytest.mark.parametrize("nothing", ["", " ", "{}", " {}\n"])
def test_nothing_is_no_arguments(nothing: str) -> None:
    assert parse(nothing) == {}


def test_an_object_is_read() -> None:
    assert parse('{"city": "Köln", "days": [1, 2.5, null]}') == {"city": "Köln", "days": [1, 2.5, None]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"city": ', "not valid JSON"),
        ("city=Rome", "not valid JSON"),
        ('{"city": NaN}', "not valid JSON"),
        ('{"city": "\ud800"}', "not valid JSON"),
        ('["Rome"]', "not a JSON object"),
        ("null", "not a JSON object"),
        ("[" * 5000, "nested deeper than 90 levels"),
        ('{"a":' * 91 + "1" + "}" * 91, "nested deeper than 90 levels"),
        ('{"city": "' + "x" * MAX_ARGUMENTS_CHARACTERS + '"}', "longer than"),
    ],
)
def test_what_is_no_object_is_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidArguments, match=said) as refused:
        parse(text)
    assert len(str(refused.value)) < 300


def test_arguments_that_match_pass() -> None:
    checked({"city": "Rome", "days": 3}, properties={"city": {"type": "string"}}, required=["city"])


def test_each_problem_is_named_with_its_place() -> None:
    with pytest.raises(InvalidArguments) as refused:
        checked(
            {"stay": {"nights": "two"}, "breakfast": 1},
            properties={"stay": {"type": "object", "properties": {"nights": {"type": "integer"}}}, "name": {}},
            required=["name"],
            additionalProperties=False,
        )
    message = str(refused.value)
    assert "$.stay.nights: 'two' is not of type 'integer'" in message
    assert "'name' is a required property" in message
    assert "'breakfast' was unexpected" in message
    assert set(refused.value.keywords) == {"type", "required", "additionalProperties"}


def test_the_message_is_bounded_however_much_is_wrong() -> None:
    with pytest.raises(InvalidArguments) as refused:
        checked({f"key{i}": "x" * 10_000 for i in range(1000)}, additionalProperties={"type": "integer"})
    assert str(refused.value).count("not of type") <= MAX_PROBLEMS
    assert len(str(refused.value)) < 2500


def test_a_reference_to_another_document_is_not_fetched() -> None:
    with pytest.raises(Exception, match=r"Unresolvable: http://127\.0\.0\.1:1/schema"):
        checked({"a": 1}, properties={"a": {"$ref": "http://127.0.0.1:1/schema"}})

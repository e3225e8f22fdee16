from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any, cast

import pytest
from jsonschema.protocols import Validator

from worker.tools.errors import ArgumentsNotChecked, BadTool, InvalidArguments
from worker.tools.schemas import MAX_PROBLEMS, MAX_TRIES, check, validator_of


def checked(arguments: dict[str, Any], **schema: Any) -> None:
    check(arguments, validator_of({"type": "object", **schema}))


def test_arguments_that_match_pass() -> None:
    checked({"city": "Rome", "days": 3}, properties={"city": {"type": "string"}}, required=["city"])


def test_message_names_each_problem_and_its_place() -> None:
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


def test_message_about_many_problems_is_bounded() -> None:
    with pytest.raises(InvalidArguments) as refused:
        checked({f"key{i}": "x" * 10_000 for i in range(1000)}, additionalProperties={"type": "integer"})
    assert str(refused.value).count("not of type") <= MAX_PROBLEMS
    assert len(str(refused.value)) < 2500


def test_a_reference_to_another_document_is_not_fetched() -> None:
    with pytest.raises(Exception, match=r"Unresolvable: http://127\.0\.0\.1:1/schema"):
        checked({"a": 1}, properties={"a": {"$ref": "http://127.0.0.1:1/schema"}})


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"properties": {"city": {"type": "text"}}}, r"no JSON Schema: \$.properties.city.type"),
        ({"properties": {"city": {"pattern": "("}}}, r"no JSON Schema: \$.properties.city.pattern"),
        ({"required": "city"}, r"no JSON Schema: \$.required"),
    ],
)
def test_invalid_schema_is_explained_in_one_line(schema: dict[str, Any], said: str) -> None:
    with pytest.raises(BadTool, match=said) as refused:
        validator_of(schema)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500


class Interrupted:
    """A validator that gets no CPU time within the time limit, the first few times."""

    def __init__(self, times: int) -> None:
        self.checks = 0
        self._times = times

    def iter_errors(self, _: object) -> Iterator[Any]:
        self.checks += 1
        if self.checks <= self._times:
            signal.pause()
        return iter(())


def test_check_without_cpu_time_is_repeated() -> None:
    validator = Interrupted(MAX_TRIES - 1)
    check({}, cast("Validator", validator))
    assert validator.checks == MAX_TRIES


def test_check_that_never_gets_cpu_time_fails() -> None:
    validator = Interrupted(MAX_TRIES)
    with pytest.raises(ArgumentsNotChecked):
        check({}, cast("Validator", validator))
    assert validator.checks == MAX_TRIES


ENDLESS = {
    "a pattern": ({"code": "a" * 60 + "b"}, {"properties": {"code": {"pattern": "^(a+)+$"}}}),
    "a name that has to match": ({"a" * 60 + "b": 1}, {"propertyNames": {"pattern": "^(a+)+$"}}),
    "equals among many": (
        {"list": [{"n": [number]} for number in range(8_000)]},
        {"properties": {"list": {"uniqueItems": True}}},
    ),
}


@pytest.mark.parametrize(("arguments", "schema"), ENDLESS.values(), ids=ENDLESS)
def test_endless_check_is_interrupted(arguments: dict[str, Any], schema: dict[str, Any]) -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(ArgumentsNotChecked, match="did not end within"):
        checked(arguments, **schema)
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    checked({}, **schema)

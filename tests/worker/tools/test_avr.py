from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openai.types.realtime import RealtimeFunctionTool

from common import function_tools
from worker.tools import avr
from worker.tools.avr import Hangup, Transfer
from worker.tools.errors import InvalidArguments


def transfer(**arguments: Any) -> Transfer:
    return avr.parse_transfer(json.dumps(arguments))


@pytest.mark.parametrize("function", avr.FUNCTIONS, ids=lambda function: str(function["name"]))
def test_the_definitions_are_openais_function_tools(function: dict[str, Any]) -> None:
    assert not RealtimeFunctionTool.model_validate(function, strict=True).model_extra
    Draft202012Validator.check_schema(function["parameters"])
    assert function_tools.NAME.fullmatch(function["name"])
    assert function["name"] in avr.RESERVED_NAMES


def test_the_parameters_are_those_that_avr_documents() -> None:
    parameters = avr.TRANSFER_FUNCTION["parameters"]
    assert set(parameters["properties"]) == {"transfer_extension", "transfer_context", "transfer_priority"}
    assert parameters["required"] == ["transfer_extension"]
    assert avr.HANGUP_FUNCTION["parameters"]["properties"] == {}


def test_an_extension_is_enough() -> None:
    assert transfer(transfer_extension="600") == Transfer("600", "demo", 1)


def test_everything_can_be_given() -> None:
    given = transfer(transfer_extension="*98", transfer_context="from-internal", transfer_priority="2")
    assert given == Transfer("*98", "from-internal", 2)


@pytest.mark.parametrize(
    ("extension", "meant"),
    [
        (600, "600"),
        (600.0, "600"),
        (" 600 ", "600"),
        ("6 0 0", "600"),
        ("+39 02 123", "+3902123"),
        ("Sales_1", "Sales_1"),
    ],
)
def test_an_extension_is_understood_as_models_write_it(extension: object, meant: str) -> None:
    assert transfer(transfer_extension=extension).extension == meant


@pytest.mark.parametrize(
    ("priority", "meant"), [(3, 3), ("3", 3), (3.0, 3), (None, 1), ("", 1), ("start", "start")]
)
def test_a_priority_is_a_number_or_a_label(priority: object, meant: int | str) -> None:
    assert transfer(transfer_extension="600", transfer_priority=priority).priority == meant


def test_what_is_left_empty_is_left_out() -> None:
    assert transfer(transfer_extension="600", transfer_context=" ", transfer_priority=None) == Transfer("600")


def test_what_is_not_known_is_ignored() -> None:
    assert transfer(transfer_extension="600", reason="asked for a person") == Transfer("600")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "transfer_extension is required"),
        ({"transfer_extension": None}, "transfer_extension is required"),
        ({"transfer_extension": "  "}, "transfer_extension is required"),
        ({"transfer_extension": True}, "transfer_extension must be a string"),
        ({"transfer_extension": ["600"]}, "transfer_extension must be a string"),
        ({"transfer_extension": 6.5}, "transfer_extension must be a string"),
        ({"transfer_extension": "600,demo"}, "must be digits"),
        ({"transfer_extension": "600\r\nAction: Hangup"}, "must be digits"),
        ({"transfer_extension": "6" * 80}, "must be digits"),
        ({"transfer_extension": "600", "transfer_context": "a,b"}, "transfer_context must be"),
        ({"transfer_extension": "600", "transfer_context": {"name": "demo"}}, "transfer_context must be a string"),
        ({"transfer_extension": "600", "transfer_priority": 0}, "transfer_priority must be"),
        ({"transfer_extension": "600", "transfer_priority": "-1"}, "transfer_priority must be"),
        ({"transfer_extension": "600", "transfer_priority": 10**12}, "transfer_priority must be"),
    ],
)
def test_what_cannot_be_dialled_is_told_to_the_model(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArguments, match=said):
        transfer(**arguments)


def test_arguments_that_are_no_object_are_refused() -> None:
    with pytest.raises(InvalidArguments, match="not a JSON object"):
        avr.parse_transfer("600")
    with pytest.raises(InvalidArguments, match="not a JSON object"):
        avr.parse_hangup("[]")


@pytest.mark.parametrize("arguments", ["", "{}", '{"reason": "goodbye"}'])
def test_hanging_up_takes_nothing(arguments: str) -> None:
    assert avr.parse_hangup(arguments) == Hangup()

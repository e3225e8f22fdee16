from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openai.types.realtime import RealtimeFunctionTool

from common.settings import function_tools
from common.settings.extensions import TransferRule
from worker.tools import built_in
from worker.tools.built_in import Hangup, Transfer
from worker.tools.errors import InvalidArguments

ANYWHERE = TransferRule("demo", ("_.", "_.@from-internal"))


TRICKS = (
    "\u0666\u0660\u0660",
    "\uff16\uff10\uff10",
    "²",
    "1\n",
    "\n1",
    "1\t2",
    "6\u00a000",
    "600\x00",
    "Local/600@demo",
    "600&0044123",
    "600,demo,1",
    "600|1",
    "600@out",
    "600;x",
    "_X.",
    "_600",
)
"""Values that are not names of extensions."""


def transfer(**arguments: Any) -> Transfer:
    return built_in.parse_transfer(json.dumps(arguments), ANYWHERE)


@pytest.mark.parametrize("function", built_in.FUNCTIONS, ids=lambda function: str(function["name"]))
def test_the_definitions_are_openais_function_tools(function: dict[str, Any]) -> None:
    assert not RealtimeFunctionTool.model_validate(function, strict=True).model_extra
    Draft202012Validator.check_schema(function["parameters"])
    assert function_tools.NAME.fullmatch(function["name"])
    assert function["name"] in built_in.BUILT_IN


def test_the_parameters_are_those_that_avr_documents() -> None:
    parameters = built_in.TRANSFER_FUNCTION["parameters"]
    assert set(parameters["properties"]) == {"transfer_extension", "transfer_context", "transfer_priority"}
    assert parameters["required"] == ["transfer_extension"]
    assert built_in.HANGUP_FUNCTION["parameters"]["properties"] == {}


def test_transfer_needs_only_an_extension() -> None:
    assert transfer(transfer_extension="600") == Transfer("600", "demo", 1)


def test_transfer_takes_context_and_priority() -> None:
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
def test_extension_may_be_a_number_or_have_spaces(extension: object, meant: str) -> None:
    assert transfer(transfer_extension=extension).extension == meant


@pytest.mark.parametrize(
    ("priority", "meant"), [(3, 3), ("3", 3), (3.0, 3), (None, 1), ("", 1), ("start", "start")]
)
def test_a_priority_is_a_number_or_a_label(priority: object, meant: int | str) -> None:
    assert transfer(transfer_extension="600", transfer_priority=priority).priority == meant


def test_empty_transfer_arguments_use_the_defaults() -> None:
    assert transfer(transfer_extension="600", transfer_context=" ", transfer_priority=None) == Transfer("600")


def test_unknown_transfer_arguments_are_ignored() -> None:
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
        *(({"transfer_extension": trick}, "must be digits") for trick in TRICKS),
        ({"transfer_extension": "600", "transfer_context": "demo\n"}, "transfer_context must be letters"),
        ({"transfer_extension": "600", "transfer_context": "a,b"}, "transfer_context must be"),
        ({"transfer_extension": "600", "transfer_context": {"name": "demo"}}, "transfer_context must be a string"),
        ({"transfer_extension": "600", "transfer_priority": 0}, "transfer_priority must be"),
        ({"transfer_extension": "600", "transfer_priority": "-1"}, "transfer_priority must be"),
        ({"transfer_extension": "600", "transfer_priority": 10**12}, "transfer_priority must be"),
    ],
)
def test_invalid_transfer_target_is_explained_to_the_model(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArguments, match=said):
        transfer(**arguments)


@pytest.mark.parametrize("trick", TRICKS)
def test_external_targets_are_refused_without_a_rule(trick: str) -> None:
    for arguments in ({"transfer_extension": trick}, {"transfer_extension": "600", "transfer_context": trick}):
        with pytest.raises(InvalidArguments):
            built_in.parse_transfer(json.dumps(arguments))


def test_refused_transfer_names_the_missing_entry() -> None:
    with pytest.raises(built_in.TransferRefused, match=r"refused: .* operator of this service") as refused:
        built_in.parse_transfer('{"transfer_extension": "0044 123 456"}')
    assert refused.value.entry == "0044123456@demo"


def test_transfer_without_context_uses_the_rules_context() -> None:
    rule = TransferRule("from-internal")
    assert built_in.parse_transfer('{"transfer_extension": 600}', rule) == Transfer("600", "from-internal")
    with pytest.raises(built_in.TransferRefused):
        built_in.parse_transfer('{"transfer_extension": "600", "transfer_context": "demo"}', rule)


def test_arguments_other_than_an_object_are_refused() -> None:
    with pytest.raises(InvalidArguments, match="not a JSON object"):
        built_in.parse_transfer("600")
    with pytest.raises(InvalidArguments, match="not a JSON object"):
        built_in.parse_hangup("[]")


@pytest.mark.parametrize("arguments", ["", "{}", '{"reason": "goodbye"}'])
def test_hangup_ignores_its_arguments(arguments: str) -> None:
    assert built_in.parse_hangup(arguments) == Hangup()

"""The model's arguments: JSON text, read and checked. What is wrong is said so that the model can correct it."""

from __future__ import annotations

import itertools
from typing import Any, Final

import orjson
from jsonschema.protocols import Validator

from common import nesting
from worker.tools.errors import InvalidArguments, one_line

MAX_ARGUMENTS_CHARACTERS: Final = 64 * 1024
"""Several times what a response of 4,096 tokens can hold."""

MAX_PROBLEMS: Final = 5


def parse(arguments: str) -> dict[str, Any]:
    """Reads arguments; an empty text is no arguments.

    Raises:
        InvalidArguments: they are not a JSON object.
    """
    if len(arguments) > MAX_ARGUMENTS_CHARACTERS:
        raise InvalidArguments(f"The arguments are longer than {MAX_ARGUMENTS_CHARACTERS} characters.", "size")
    if not arguments.strip():
        return {}
    try:
        parsed = nesting.read(arguments)
    except nesting.TooDeep as error:
        raise InvalidArguments(f"The arguments' JSON {error}.", "json") from None
    except orjson.JSONDecodeError as error:
        raise InvalidArguments(f"The arguments are not valid JSON: {error}.", "json") from None
    if not isinstance(parsed, dict):
        raise InvalidArguments("The arguments are not a JSON object.", "json")
    return parsed


def check(arguments: dict[str, Any], validator: Validator) -> None:
    """Checks arguments against a schema.

    Raises:
        InvalidArguments: names up to `MAX_PROBLEMS` problems, each with its place.
        Exception: the schema refers to what does not exist (jsonschema lets the `referencing` library's out).
    """
    problems = list(itertools.islice(validator.iter_errors(arguments), MAX_PROBLEMS))
    if problems:
        listed = "; ".join(f"{problem.json_path}: {one_line(problem.message)}" for problem in problems)
        raise InvalidArguments(
            f"The arguments do not match the tool's schema: {listed}. Correct them and call the tool again.",
            *(str(problem.validator) for problem in problems),
        )

"""JSON Schemas of tools, and arguments that are checked against them. For the process that runs tools alone.

A schema's author may write a pattern that takes years to match, and a caller may say the words that make it so.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, Final

from jsonschema import Draft202012Validator, SchemaError
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for
from referencing import Registry

from worker.tools.errors import ArgumentsNotChecked, BadTool, InvalidArguments, one_line

MAX_PROBLEMS: Final = 5

BOUND_SECONDS: Final = 0.5
"""How long a check may take. A usual one takes less than a millisecond."""

MAX_TRIES: Final = 3
"""A check that had less than half of the bound to itself is made again: a tool may have kept the interpreter."""


class _Overdue(BaseException):
    """The bound has passed. No `except Exception` of a library is to catch it."""


def validator_of(schema: dict[str, Any]) -> Validator:
    """Return a validator, which fetches nothing that a `$ref` names. For the main thread.

    Raises:
        BadTool: it is no JSON Schema.
    """
    made = validator_for(schema, default=Draft202012Validator)
    try:
        with _bounded():
            made.check_schema(schema)
    except SchemaError as error:
        raise BadTool(f"input_schema is no JSON Schema: {error.json_path}: {one_line(error.message)}") from None
    except _Overdue:
        raise BadTool(f"input_schema cannot be checked within {BOUND_SECONDS:g} s") from None
    return made(schema, registry=Registry())


def check(arguments: dict[str, Any], validator: Validator) -> None:
    """Check arguments against a schema. For the main thread.

    Raises:
        InvalidArguments: names up to `MAX_PROBLEMS` problems, each with its place.
        ArgumentsNotChecked: the check did not end within `BOUND_SECONDS`.
        Exception: the schema refers to what does not exist (jsonschema lets the `referencing` library's out).
    """
    for _ in range(MAX_TRIES):
        began_seconds = time.thread_time()
        try:
            with _bounded():
                problems = list(itertools.islice(validator.iter_errors(arguments), MAX_PROBLEMS))
                listed = "; ".join(f"{each.json_path}: {one_line(each.message)}" for each in problems)
            break
        except _Overdue:
            if time.thread_time() - began_seconds >= BOUND_SECONDS / 2:
                raise ArgumentsNotChecked(f"the check did not end within {BOUND_SECONDS:g} s") from None
    else:
        raise ArgumentsNotChecked(f"the check had no time to itself within {MAX_TRIES * BOUND_SECONDS:g} s")
    if problems:
        raise InvalidArguments(
            f"The arguments do not match the tool's schema: {listed}. Correct them and call the tool again.",
            *(str(problem.validator) for problem in problems),
        )


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    """Raise `_Overdue` when the bound has passed: a regular expression that matches looks for signals, too."""
    before = signal.signal(signal.SIGALRM, _overdue)
    signal.setitimer(signal.ITIMER_REAL, BOUND_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _overdue(_number: int, _frame: FrameType | None) -> None:
    raise _Overdue

"""Check arguments against the JSON Schemas of tools. Used only in the process that runs tools.

Each check has a time limit: a regular expression in a schema may take years to match certain words of a caller.
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
"""Time limit of a check. A usual check takes less than a millisecond."""

MAX_TRIES: Final = 3
"""Maximum number of attempts. A check is repeated if its CPU time was less than half of its time limit. A tool may
then have kept the interpreter."""


class _Overdue(BaseException):
    """The end of the time limit. A BaseException, so that no `except Exception` of a library catches it."""


def validator_of(schema: dict[str, Any]) -> Validator:
    """Return a validator that does not fetch a `$ref`. Only for the main thread.

    Raises:
        BadTool: the schema is not a JSON Schema.
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
    """Check arguments against a schema. Only for the main thread.

    Raises:
        InvalidArguments: the arguments do not match; the message names up to `MAX_PROBLEMS` problems and places.
        ArgumentsNotChecked: the check did not end within `BOUND_SECONDS`.
        Exception: a reference in the schema cannot be resolved (jsonschema passes on errors of `referencing`).
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
    """Raise `_Overdue` at the end of the time limit. A signal also interrupts a running regular expression."""
    before = signal.signal(signal.SIGALRM, _overdue)
    signal.setitimer(signal.ITIMER_REAL, BOUND_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _overdue(_number: int, _frame: FrameType | None) -> None:
    raise _Overdue

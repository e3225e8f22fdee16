"""A tool's definition, as the tool's file exports it, and the checks of that definition."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Self

import orjson

from common.settings import function_tools
from common.settings.function_tools import Change
from worker.tools.errors import BadTool, one_line

MAX_DEFINITION_BYTES: Final = 64 * 1024
"""Maximum size of one definition as JSON. Every session sends all definitions to the model."""

ATTRIBUTES: Final = ("name", "description", "input_schema", "idempotent")
"""The attributes that a file exports, in the order of `Definition.parse`."""


@dataclass(frozen=True, slots=True)
class Definition:
    """The definition of a tool for the model.

    Attributes:
        parameters: the JSON Schema of the arguments; its type is object, and its values are JSON values.
        idempotent: whether an interrupted call may be run again.
        function: an entry of the session's `tools`, in a form that the API accepts (see
            `common.settings.function_tools`).
        changes: differences between `function` and the file's own definition.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    idempotent: bool
    function: dict[str, Any] = field(repr=False)
    changes: tuple[Change, ...] = ()

    @classmethod
    def parse(cls, name: object, description: object, input_schema: object, idempotent: object) -> Self:
        """Build a definition from a file's attributes; None stands for a missing attribute.

        As in AVR, a missing description is empty, and a tool without `input_schema` takes no arguments.
        `worker.tools.schemas` checks that `input_schema` is a JSON Schema; this method does not.

        Raises:
            BadTool: an attribute is missing or wrong.
        """
        if not isinstance(name, str) or not function_tools.NAME.fullmatch(name):
            raise BadTool(f"name is {_shown(name)}: 1 to 64 letters, digits, _ and - are needed")
        if description is None:
            description = ""
        if not isinstance(description, str):
            raise BadTool(f"description is {_shown(description)}: a string is needed")
        if idempotent not in (None, True, False):
            raise BadTool(f"idempotent is {_shown(idempotent)}: true or false is needed")
        parameters = _parameters(input_schema)
        if len(orjson.dumps(parameters)) + 4 * len(description) > MAX_DEFINITION_BYTES:
            raise BadTool(f"description and input_schema are longer than {MAX_DEFINITION_BYTES} bytes")
        function = {"type": "function", "name": name, "description": description, "parameters": parameters}
        try:
            mended, changes = function_tools.mend(function)
        except ValueError as error:
            raise BadTool(f"the API would refuse it: it {error}") from None
        return cls(name, description, parameters, idempotent is True, mended, tuple(changes))


def _parameters(input_schema: object) -> dict[str, Any]:
    if input_schema is None:
        input_schema = {}
    if not isinstance(input_schema, dict):
        raise BadTool(f"input_schema is {_shown(input_schema)}: a JSON Schema object is needed")
    try:
        # A copy, so that the file cannot change it later; and the copy holds JSON values only.
        schema: dict[str, Any] = orjson.loads(orjson.dumps(input_schema))
    except (TypeError, ValueError) as error:
        raise BadTool(f"input_schema is not JSON: {one_line(str(error))}") from None
    if schema.get("type", "object") != "object":
        raise BadTool(f"input_schema has type {_shown(schema['type'])}: arguments are always an object")
    # OpenAI refuses functions without these two keywords: see `common.settings.function_tools`.
    return {"type": "object", "properties": {}} | schema


def _shown(value: object) -> str:
    return "missing" if value is None else one_line(repr(value))

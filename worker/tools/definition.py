"""What a tool says of itself, checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Self

import orjson

from common.settings import function_tools
from common.settings.function_tools import Change
from worker.tools.errors import BadTool, one_line

MAX_DEFINITION_BYTES: Final = 64 * 1024
"""As JSON. It goes to the model with every session."""


ATTRIBUTES: Final = ("name", "description", "input_schema", "idempotent")
"""What a file says of its tool, in the order of `Definition.parse`."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A tool as the model sees it.

    Attributes:
        parameters: the JSON Schema of the arguments, an object's; JSON values only.
        idempotent: whether a call that was interrupted may be run again.
        function: an entry of the session's `tools`, in a form that the API accepts: see
            `common.settings.function_tools`.
        changes: differences between `function` and what the file says.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    idempotent: bool
    function: dict[str, Any] = field(repr=False)
    changes: tuple[Change, ...] = ()

    @classmethod
    def parse(cls, name: object, description: object, input_schema: object, idempotent: object) -> Self:
        """From a file's attributes; None is an attribute that it does not have.

        As in AVR, no description is an empty one, and no `input_schema` is a tool without arguments. Whether
        `input_schema` is a JSON Schema is not looked at here: see `worker.tools.schemas`.

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
        # A copy, which the file cannot change any more, with nothing in it that is not JSON.
        schema: dict[str, Any] = orjson.loads(orjson.dumps(input_schema))
    except (TypeError, ValueError) as error:
        raise BadTool(f"input_schema is not JSON: {one_line(str(error))}") from None
    if schema.get("type", "object") != "object":
        raise BadTool(f"input_schema has type {_shown(schema['type'])}: arguments are always an object")
    # OpenAI refuses functions without these two.
    return {"type": "object", "properties": {}} | schema


def _shown(value: object) -> str:
    return "missing" if value is None else one_line(repr(value))

"""Parse the JSON text of the model's arguments. Error messages tell the model how to correct the arguments."""

from __future__ import annotations

from typing import Any, Final

import orjson

from common.net import json_depth
from worker.tools.errors import InvalidArguments

MAX_ARGUMENTS_CHARACTERS: Final = 64 * 1024
"""Several times the length of a response of 4,096 tokens."""


def parse(arguments: str) -> dict[str, Any]:
    """Parse the arguments of a function call. An empty text means no arguments.

    Raises:
        InvalidArguments: the text is not a JSON object, or the text is too long.
    """
    if len(arguments) > MAX_ARGUMENTS_CHARACTERS:
        raise InvalidArguments(f"The arguments are longer than {MAX_ARGUMENTS_CHARACTERS} characters.", "size")
    if not arguments.strip():
        return {}
    try:
        parsed = json_depth.read(arguments)
    except json_depth.TooDeep as error:
        raise InvalidArguments(f"The arguments' JSON {error}.", "json") from None
    except orjson.JSONDecodeError as error:
        raise InvalidArguments(f"The arguments are not valid JSON: {error}.", "json") from None
    if not isinstance(parsed, dict):
        raise InvalidArguments("The arguments are not a JSON object.", "json")
    return parsed

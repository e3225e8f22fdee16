"""The built-in tools: their definitions for the model, and their arguments. The session executes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from common.settings.extensions import CONTEXT, DEFAULT_CONTEXT, EXTENSION, ONLY_INTERNAL, TransferRule
from worker.tools import arguments as json_arguments
from worker.tools.errors import InvalidArguments

TRANSFER: Final = "avr_transfer"
HANGUP: Final = "avr_hangup"

BUILT_IN: Final = frozenset({TRANSFER, HANGUP})
"""Names of the built-in tools. A tool file with one of these names replaces the built-in tool."""

DEFAULT_PRIORITY: Final = 1
"""The dialplan priority of a transfer, if the model does not name a priority."""

_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,78}")

TRANSFER_FUNCTION: Final[dict[str, Any]] = {
    "type": "function",
    "name": TRANSFER,
    "description": (
        "Hands the caller over to a person or department by transferring the call to an extension. Use it when"
        " the caller asks for somebody else, or when you cannot help. First tell the caller that you are"
        " transferring them: you leave the call when you have finished speaking."
    ),
    "parameters": {
        "type": "object",
        "properties": {
            "transfer_extension": {"type": "string", "description": "The extension to transfer to, such as 600."},
            "transfer_context": {
                "type": "string",
                "description": "The dialplan context of the extension. Leave it out unless you were told one.",
            },
            "transfer_priority": {
                "type": "string",
                "description": "The dialplan priority to start at. Leave it out unless you were told one.",
            },
        },
        "required": ["transfer_extension"],
    },
}

HANGUP_FUNCTION: Final[dict[str, Any]] = {
    "type": "function",
    "name": HANGUP,
    "description": (
        "Ends the call. Use it when the caller says goodbye, or when everything is done and the caller needs"
        " nothing else. Say goodbye first: the call ends when you have finished speaking."
    ),
    "parameters": {"type": "object", "properties": {}, "required": []},
}

FUNCTIONS: Final = (TRANSFER_FUNCTION, HANGUP_FUNCTION)
"""The built-in tools as entries of the session's `tools`."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """The target of a transfer: avr-ami's `exten`, `context` and `priority` (a number or a label)."""

    extension: str
    context: str = DEFAULT_CONTEXT
    priority: int | str = DEFAULT_PRIORITY


class TransferRefused(InvalidArguments):
    """A transfer that the model asked for and TRANSFER_ALLOWED does not permit.

    Attributes:
        entry: the entry of TRANSFER_ALLOWED that would permit the transfer.
    """

    def __init__(self, extension: str, context: str) -> None:
        self.entry = f"{extension}@{context}"
        super().__init__(
            f"refused: callers may not be transferred to {self.entry}. Tell the caller that this transfer is not "
            "possible. Only the operator of this service can allow it, in its settings (TRANSFER_ALLOWED).",
            "permission",
        )


@dataclass(frozen=True, slots=True)
class Hangup:
    """A request to end the call."""


def parse_transfer(arguments: str, rule: TransferRule = ONLY_INTERNAL) -> Transfer:
    """Parse the model's arguments (JSON text) of `avr_transfer`. Each value may be a number or a string.

    Raises:
        InvalidArguments: the arguments are invalid; the message tells the model why.
        TransferRefused: the rule does not permit this transfer.
    """
    given = json_arguments.parse(arguments)
    extension = _text(given, "transfer_extension")
    if extension is None:
        raise InvalidArguments(
            "transfer_extension is required: the extension to transfer the call to.", "required"
        )
    # Models often write telephone numbers in groups of digits.
    extension = extension.replace(" ", "")
    # An extension that begins with _ is a pattern of the dialplan. No call can be transferred to a pattern.
    if not EXTENSION.fullmatch(extension) or extension.startswith("_"):
        raise InvalidArguments("transfer_extension must be digits, letters, or any of * # + . _ -", "pattern")
    context = _text(given, "transfer_context") or rule.context
    if not CONTEXT.fullmatch(context):
        raise InvalidArguments("transfer_context must be letters, digits, _ and -", "pattern")
    priority = _priority(_text(given, "transfer_priority"))
    if not rule.permits(extension, context):
        raise TransferRefused(extension, context)
    return Transfer(extension, context, priority)


def parse_hangup(arguments: str) -> Hangup:
    """Parse the model's arguments (JSON text) of `avr_hangup`. The tool has no parameters; ignore any given.

    Raises:
        InvalidArguments: the arguments are not a JSON object.
    """
    json_arguments.parse(arguments)
    return Hangup()


def _priority(text: str | None) -> int | str:
    if text is None:
        return DEFAULT_PRIORITY
    if _NUMBER.fullmatch(text):
        return int(text)
    if _LABEL.fullmatch(text):
        return text
    raise InvalidArguments("transfer_priority must be a number from 1, or a label", "pattern")


def _text(given: dict[str, Any], name: str) -> str | None:
    """Return a string or a whole number as stripped text; None for a missing, null or empty value."""
    value = given.get(name)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidArguments(f"{name} must be a string", "type")
    # Only spaces are stripped: a line break must stay, so that the check refuses it before Asterisk's manager.
    return value.strip(" ") or None


def parse(name: str, arguments: str, rule: TransferRule = ONLY_INTERNAL) -> Transfer | Hangup:
    """Read the arguments of a call of `avr_transfer` or `avr_hangup`.

    Raises:
        InvalidArguments: the arguments are invalid, or the transfer is refused; the message is for the model.
    """
    return parse_transfer(arguments, rule) if name == TRANSFER else parse_hangup(arguments)

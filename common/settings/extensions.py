"""Extensions of Asterisk's dialplan, and the rule for the model's transfers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

DEFAULT_CONTEXT: Final = "demo"
"""The dialplan context of AVR's own examples, used for extensions without a context."""

INTERNAL: Final = "internal"
"""The entry of TRANSFER_ALLOWED for the default rule."""

MAX_ALLOWED: Final = 256
"""Maximum number of entries in TRANSFER_ALLOWED, because each is compared with each transfer."""

# Characters that Asterisk accepts; none of them can end a line of its manager protocol. AST_MAX_EXTENSION is 80.
EXTENSION: Final = re.compile(r"[A-Za-z0-9*#+._-]{1,79}")
CONTEXT: Final = re.compile(r"[A-Za-z0-9_-]{1,79}")

# External telephone numbers are longer, or begin with +.
_INTERNAL_EXTENSION: Final = re.compile(r"[0-9]{1,6}|[A-Za-z]{1,79}")
# A pattern as in the dialplan: https://docs.asterisk.org/Configuration/Dialplan/Pattern-Matching/
_PATTERN: Final = re.compile(r"_(?:[A-Za-z0-9*#+-]|\[(?:[0-9]-[0-9]|[A-Za-z0-9*#+])+\])*[.!]?")
_SETS: Final = {"X": "[0-9]", "Z": "[1-9]", "N": "[2-9]", ".": r"[A-Za-z0-9*#+._-]+", "!": r"[A-Za-z0-9*#+._-]*"}
_MAX_PATTERN_CHARACTERS: Final = 79


def split(written: str, default_context: str = DEFAULT_CONTEXT) -> tuple[str, str]:
    """Split `exten[@context]` into extension and context.

    Raises:
        ValueError: either part has characters that Asterisk does not accept.
    """
    extension, at, context = written.partition("@")
    if not EXTENSION.fullmatch(extension) or (at and not CONTEXT.fullmatch(context)):
        raise ValueError("must be exten or exten@context: digits, letters, or any of * # + . _ - (context: _ -)")
    return extension, context or default_context


def allowed_entry(written: str) -> str:
    """Return an entry of TRANSFER_ALLOWED unchanged.

    Raises:
        ValueError: the text is not an entry; says what is.
    """
    extension, at, context = written.partition("@")
    is_pattern = extension.startswith("_")
    known = _PATTERN if is_pattern else EXTENSION
    is_extension = len(extension) <= _MAX_PATTERN_CHARACTERS and known.fullmatch(extension) and extension != "_"
    if not is_extension or (at and not CONTEXT.fullmatch(context)):
        raise ValueError(
            f"must be {INTERNAL}, exten, exten@context or a pattern such as _00X.@context, separated by commas"
        )
    if is_pattern:
        _matcher(extension)
    return written


@dataclass(frozen=True, slots=True)
class TransferRule:
    """The rule for the model's transfers, because a caller can persuade the model to transfer anywhere.

    Attributes:
        context: TRANSFER_CONTEXT, for extensions without a context.
        allowed: TRANSFER_ALLOWED; None: `INTERNAL`.
    """

    context: str = DEFAULT_CONTEXT
    allowed: tuple[str, ...] | None = None

    def permits(self, extension: str, context: str) -> bool:
        """Return whether the model may transfer a caller to this extension."""
        entries = (INTERNAL,) if self.allowed is None else self.allowed
        return any(self._matches(entry, extension, context) for entry in entries)

    def how_to_permit(self, entry: str) -> str:
        """Tell an operator how to permit one more entry."""
        if self.allowed is None:
            return f"set TRANSFER_ALLOWED={INTERNAL},{entry}"
        return f"add {entry} to TRANSFER_ALLOWED"

    def _matches(self, entry: str, extension: str, context: str) -> bool:
        if entry == INTERNAL:
            return context == self.context and _INTERNAL_EXTENSION.fullmatch(extension) is not None
        wanted, _, its_context = entry.partition("@")
        if context != (its_context or self.context):
            return False
        return extension == wanted or (
            wanted.startswith("_") and _matcher(wanted).fullmatch(extension) is not None
        )


ONLY_INTERNAL: Final = TransferRule()


def _matcher(pattern: str) -> re.Pattern[str]:
    """Compile a pattern of the dialplan. Its sets have the syntax of sets in regular expressions."""
    parts = re.findall(r"\[[^]]*\]|.", pattern[1:])
    made = "".join(part if part[0] == "[" else _SETS.get(part.upper(), re.escape(part)) for part in parts)
    try:
        return re.compile(made)
    except re.error:
        raise ValueError(f"has the pattern {pattern}, whose set is wrong") from None

"""Extensions of Asterisk's dialplan, as people and models write them."""

from __future__ import annotations

import re
from typing import Final

DEFAULT_CONTEXT: Final = "demo"
"""The dialplan context of AVR's own examples, used where none is given."""

# Characters that Asterisk takes; none could end a line of its manager protocol. AST_MAX_EXTENSION is 80.
EXTENSION: Final = re.compile(r"[A-Za-z0-9*#+._-]{1,79}")
CONTEXT: Final = re.compile(r"[A-Za-z0-9_-]{1,79}")


def split(written: str) -> tuple[str, str]:
    """Split `exten[@context]` into extension and context.

    Raises:
        ValueError: either has characters that Asterisk does not take.
    """
    extension, at, context = written.partition("@")
    if not EXTENSION.fullmatch(extension) or (at and not CONTEXT.fullmatch(context)):
        raise ValueError("must be exten or exten@context: digits, letters, or any of * # + . _ - (context: _ -)")
    return extension, context or DEFAULT_CONTEXT

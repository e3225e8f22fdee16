"""Entries of keys that a tool asks the caller for, and that the model never sees."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Self

MAX_COUNT: Final = 64
MAX_TIMEOUT_SECONDS: Final = 60.0
MAX_PROMPT_CHARACTERS: Final = 1000


class EntryEnding(StrEnum):
    """How an entry ended. The first three bring the keys to the tool; the others are exceptions there."""

    COUNT = "count"
    """All the keys that were asked for."""
    END_KEY = "#"
    """The caller pressed `#`, which is no part of the entry."""
    TIMEOUT = "timeout"
    """No key followed in time."""
    LOST = "lost"
    """The keys were discarded, because the session or the caller is gone."""
    REFUSED = "refused"
    """The caller was not asked."""


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """A tool's request for keys.

    Attributes:
        prompt: what the agent says to the caller; empty: nothing.
        count: number of keys that end the entry.
        timeout_seconds: time for the first key, after the prompt was heard, and for each further one.
    """

    prompt: str
    count: int
    timeout_seconds: float

    @classmethod
    def parse(cls, prompt: object, count: object, timeout_seconds: object) -> Self:
        """Check the arguments of a tool.

        Raises:
            ValueError: an argument is wrong; the message is for the tool's author.
        """
        if not isinstance(prompt, str) or len(prompt) > MAX_PROMPT_CHARACTERS:
            raise ValueError(f"prompt must be a text of at most {MAX_PROMPT_CHARACTERS} characters")
        if isinstance(count, float) and count.is_integer():  # a number of JavaScript
            count = int(count)
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MAX_COUNT:
            raise ValueError(f"count must be a whole number from 1 to {MAX_COUNT}")
        if not isinstance(timeout_seconds, int | float) or isinstance(timeout_seconds, bool):
            raise ValueError(f"timeout must be a number of seconds up to {MAX_TIMEOUT_SECONDS:g}")
        if not math.isfinite(timeout_seconds) or not 0 < timeout_seconds <= MAX_TIMEOUT_SECONDS:
            raise ValueError(f"timeout must be above 0 s and at most {MAX_TIMEOUT_SECONDS:g} s")
        # A lone surrogate, which JavaScript may send, cannot be sent to the API.
        said = prompt.strip().encode(errors="replace").decode()
        return cls(said, count, float(timeout_seconds))


@dataclass(frozen=True, slots=True)
class Entry:
    """What came of a request for keys.

    Attributes:
        ending: how it ended.
        digits: the keys; never shown in logs.
        message: why there are none, for the tool.
    """

    ending: EntryEnding
    digits: str = field(default="", repr=False)
    message: str = ""

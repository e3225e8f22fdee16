"""The result of one check."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """The state of one checked thing."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        name: of the check.
        state: of the checked thing.
        value: the value that was checked, never a secret.
        what: what was found, or what is wrong.
        todo: what to do about it; empty: nothing.
    """

    name: str
    state: State
    value: str
    what: str
    todo: str = ""

"""The check of the settings: wrong values, misspelt names, and settings without effect."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from common.check.finding import Finding, State
from common.errors import SettingsError
from common.settings.settings import Settings

NAME: Final = "settings"

_VARIABLE: Final = re.compile(r"[A-Z][A-Z0-9_]+")
_MEANT: Final = re.compile(r"did you mean (\w+)\?")


def of_wrong(error: SettingsError) -> list[Finding]:
    """Return a finding for each wrong or missing setting."""
    lines = str(error).splitlines()
    found = [
        _finding(
            State.FAIL, line, f"{'set' if ' is not set: ' in line else 'correct'} it in the environment or in .env"
        )
        for line in lines
    ]
    rest = Finding("all others", State.SKIPPED, "", "they need settings that are right")
    return [*found, rest]


def of_right(settings: Settings) -> list[Finding]:
    """Return a finding for each notice of settings that are right."""
    found = list(_of_notices(settings.notices))
    return found or [Finding(NAME, State.OK, "", "all variables are known, and all values are allowed")]


def _of_notices(lines: Iterable[str]) -> Iterator[Finding]:
    for line in lines:
        yield _finding(State.WARN, line, "")


def _finding(state: State, line: str, todo: str) -> Finding:
    named = _VARIABLE.match(line)
    meant = _MEANT.search(line)
    if meant is not None:
        todo = f"rename it to {meant[1]}"
    return Finding(NAME, state, named[0] if named else "", line, todo)

"""Settings that were renamed: for one release the old name works, with a warning at the start.

docs/releases.md has the rule. Metrics have both names for as long.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

_FILE: Final = "_file"
"""Behind the name of a secret: the variable that names its file."""


@dataclass(frozen=True, slots=True)
class Renamed:
    """What became of an old name.

    Attributes:
        name: of the setting now, in lower case.
        gone_in: the release that does not read the old name any more.
    """

    name: str
    gone_in: str


RENAMED: Final[Mapping[str, Renamed]] = {}
"""By the old name, in lower case. Names of files of secrets follow."""


class Notice(NamedTuple):
    """A line for the log about an old name.

    Attributes:
        name: of the setting now, in lower case.
        line: for people.
    """

    name: str
    line: str


def current_name(name: str) -> str:
    """Return the present name of a variable, in lower case."""
    return _renamed(name)[0]


def take(variables: Mapping[str, str | None]) -> tuple[dict[str, str | None], list[Notice]]:
    """Return the variables of one source under their present names, and a notice for each old one."""
    taken: dict[str, str | None] = {}
    old: list[tuple[str, str | None]] = []
    for name, value in variables.items():
        if current_name(name) == name.lower():
            taken[name] = value
        elif _is_set(value):
            old.append((name, value))
    is_set = {name.lower() for name, value in taken.items() if _is_set(value)}
    notices = []
    for name, value in old:
        now, gone_in = _renamed(name)
        if now in is_set:
            line = f"{name.upper()} has no effect: {now.upper()}, its name now, is set too"
        else:
            # An empty one would come behind it and count.
            taken = {each: kept for each, kept in taken.items() if each.lower() != now} | {now: value}
            line = (
                f"{name.upper()} is named {now.upper()} now, and is not read from release {gone_in} on: rename it"
            )
        notices.append(Notice(now, line))
    return taken, notices


def _renamed(name: str) -> tuple[str, str]:
    """Return the present name, and the release that does not read `name`: empty if that is the present one."""
    lower = name.lower()
    for ending in ("", _FILE):
        known = RENAMED.get(lower.removesuffix(ending)) if lower.endswith(ending) else None
        if known is not None:
            return known.name + ending, known.gone_in
    return lower, ""


def _is_set(value: str | None) -> bool:
    return (value or "").strip().strip("\"'").strip() != ""

"""The findings of all checks: a table for people, or JSON for machines."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from common.check.finding import Finding, State
from common.observe.redaction import redact

MAX_VALUE_CHARACTERS: Final = 48
"""Width of the table's column of values; a longer value pushes its own line to the right."""

MAX_TEXT_CHARACTERS: Final = 600
"""Maximum length of each text of a finding."""

_COLOURS: Final = {State.OK: 32, State.WARN: 33, State.FAIL: 31, State.SKIPPED: 2}
_COUNTED: Final = {State.OK: "ok", State.WARN: "to look at", State.FAIL: "failed", State.SKIPPED: "skipped"}


@dataclass(frozen=True, slots=True)
class Report:
    """All findings of one run.

    Attributes:
        role: of the checked process.
        release: of the service.
        findings: in the order in which they are shown.
        wrong_settings: whether a setting is wrong, so that the process would not start.
    """

    role: str
    release: str
    findings: Sequence[Finding]
    wrong_settings: bool = False

    @property
    def exit_code(self) -> int:
        """The exit code: 0, 1 if a check failed, or EX_CONFIG (78) for wrong settings."""
        if self.wrong_settings:
            return os.EX_CONFIG
        return int(any(finding.state is State.FAIL for finding in self.findings))

    def to_json(self) -> dict[str, Any]:
        """Return the report for machines; docs/check.md describes its keys."""
        return {
            "role": self.role,
            "release": self.release,
            "ok": self.exit_code == 0,
            "exit_code": self.exit_code,
            "checks": [
                asdict(finding) | {name: _plain(text) for name, text in _texts(finding)}
                for finding in self.findings
            ],
        }

    def table(self, *, colours: bool) -> str:
        """Return the report for people: a line for each finding, a line for what to do, and the numbers."""
        widths = [
            max((len(state) for state in State), default=0),
            max((len(finding.name) for finding in self.findings), default=0),
            min(max((len(finding.value) for finding in self.findings), default=0), MAX_VALUE_CHARACTERS),
        ]
        lines = [line for finding in self.findings for line in _lines(finding, widths, colours=colours)]
        numbers = Counter(finding.state for finding in self.findings)
        counted = [f"{numbers[state]} {word}" for state, word in _COUNTED.items() if numbers[state]]
        return "\n".join([*lines, "", f"{self.role}: {', '.join(counted)}"]) + "\n"


def _texts(finding: Finding) -> Iterable[tuple[str, str]]:
    return (("value", finding.value), ("what", finding.what), ("todo", finding.todo))


def _lines(finding: Finding, widths: Sequence[int], *, colours: bool) -> Iterable[str]:
    state = f"{finding.state:<{widths[0]}}"
    if colours:
        state = f"\x1b[{_COLOURS[finding.state]}m{state}\x1b[0m"
    rest = f"{finding.name:<{widths[1]}}  {_plain(finding.value):<{widths[2]}}  {_plain(finding.what)}"
    yield f"{state}  {rest}".rstrip()
    if finding.todo:
        yield f"{' ' * (widths[0] + 2)}-> {_plain(finding.todo)}"


def _plain(text: str) -> str:
    """Return a text without secrets, as one bounded line without control characters."""
    line = " ".join("".join(each if each.isprintable() else " " for each in redact(text)).split())
    return line if len(line) <= MAX_TEXT_CHARACTERS else line[:MAX_TEXT_CHARACTERS] + "..."

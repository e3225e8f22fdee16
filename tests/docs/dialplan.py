"""Parse Asterisk's `extensions.conf`, for the syntax that our documents use."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

APPLICATIONS: Final = {
    *("Answer", "AudioSocket", "Busy", "Congestion", "Dial", "Goto", "GotoIf", "Hangup"),
    *("MixMonitor", "NoOp", "Playback", "Queue", "Ringing", "Set", "Wait"),
}
"""Applications of Asterisk 20 to 23 that our documents may use."""

FUNCTIONS: Final = {"CALLERID", "CURL", "CURLOPT", "FILTER", "GROUP", "GROUP_COUNT", "SHELL"}
"""Dialplan functions of Asterisk 20 to 23 that our documents may use."""

_SECTION: Final = re.compile(r"\[([\w-]+)\]")
_LINE: Final = re.compile(r"(exten|same)\s*=>\s*(.*)")
_APPLICATION: Final = re.compile(r"([A-Za-z]\w*)\((.*)\)")
_FUNCTION: Final = re.compile(r"(?:\$\{|Set\()([A-Z][A-Z_]*)\(")
_JUMP: Final = re.compile(r"[?(]([\w-]+),1\)$")
_LOCAL: Final = re.compile(r"Local/(\w+)@([\w-]+)")


@dataclass(slots=True)
class Dialplan:
    """The extensions in a text, and the text's problems.

    Attributes:
        extensions: the priorities, by context and extension.
    """

    extensions: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    _jumps: list[tuple[str, str, int]] = field(default_factory=list)

    @classmethod
    def parse(cls, text: str) -> Dialplan:
        """Parse a dialplan, and find all its problems."""
        plan = cls()
        context = extension = ""
        for number, raw in enumerate(text.splitlines(), 1):
            line = re.sub(r"(^|\s);.*", "", raw).strip()
            if not line:
                continue
            if section := _SECTION.fullmatch(line):
                context, extension = section[1], ""
            elif not (found := _LINE.fullmatch(line)):
                plan._complain(number, f"neither a section, `exten =>` nor `same =>`: {line}")
            elif not context:
                plan._complain(number, "no section before it")
            else:
                extension = plan._step(number, context, extension, found[1], found[2])
        for target_context, target, number in plan._jumps:
            if (target_context, target) not in plan.extensions:
                plan._complain(number, f"jumps to {target}@{target_context}, which there is not")
        return plan

    def _step(self, number: int, context: str, extension: str, keyword: str, rest: str) -> str:
        parts = rest.split(",", 2 if keyword == "exten" else 1)
        if len(parts) != (3 if keyword == "exten" else 2):
            self._complain(number, f"parts are missing: {rest}")
            return extension
        if keyword == "exten":
            extension = parts[0].strip()
        *_, priority, command = (part.strip() for part in parts)
        if not extension:
            self._complain(number, "`same =>` without an extension before it")
            return extension
        steps = self.extensions.setdefault((context, extension), [])
        label = re.fullmatch(r"(n|[1-9]\d*)(\(\w+\))?", priority)
        if label is None:
            self._complain(number, f"no priority: {priority}")
        elif label[1] == "n" and not steps:
            self._complain(number, f"{extension} begins with n, and has no 1")
        elif label[1] != "n" and int(label[1]) != len(steps) + 1:
            self._complain(number, f"priority {label[1]} of {extension}: {len(steps) + 1} is next")
        else:
            steps.append(len(steps) + 1)
        self._command(number, context, command)
        return extension

    def _command(self, number: int, context: str, command: str) -> None:
        found = _APPLICATION.fullmatch(command)
        if found is None:
            self._complain(number, f"no application with its arguments: {command}")
            return
        if found[1] not in APPLICATIONS:
            self._complain(number, f"unknown application: {found[1]}")
        for pair in ("()", "{}", "[]"):
            if command.count(pair[0]) != command.count(pair[1]):
                self._complain(number, f"{pair} are not in pairs: {command}")
        for name in _FUNCTION.findall(command):
            if name not in FUNCTIONS:
                self._complain(number, f"unknown function: {name}")
        if found[1] in {"Goto", "GotoIf"}:
            if jump := _JUMP.search(command):
                self._jumps.append((context, jump[1], number))
            else:
                self._complain(number, f"no target: {command}")
        for target, target_context in _LOCAL.findall(command):
            self._jumps.append((target_context, target, number))

    def _complain(self, number: int, problem: str) -> None:
        self.problems.append(f"line {number}: {problem}")

"""The steps of a dialogue's file, each read and checked by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import orjson

from common.settings.nearest import nearest_word
from simulator.avr.microphone import DTMF_DIGITS
from simulator.dialogue.errors import FileErrors
from simulator.dialogue.yaml_nodes import Node

MAX_TEXT_CHARACTERS: Final = 2000
MAX_SECONDS: Final = 60.0
MAX_DIGITS: Final = 64
MAX_NAME_CHARACTERS: Final = 64
INTERRUPTS_AFTER_SECONDS: Final = 1.5
"""Without `after`, the caller interrupts so long after the agent's line has begun."""


@dataclass(frozen=True, slots=True)
class SpokenStep:
    """A line of either side.

    Attributes:
        line: line of the file.
        who: `agent`, `caller` or `interrupt`.
        text: the words.
        wav: the file with the sound, as it is written; None: espeak-ng speaks the words.
        after_seconds: of an interruption.
    """

    line: int
    who: str
    text: str
    wav: str | None
    after_seconds: float


@dataclass(frozen=True, slots=True)
class ToolStep:
    """The agent calls a function; `arguments` is JSON text."""

    line: int
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class KeysStep:
    """The caller presses keys."""

    line: int
    digits: str


@dataclass(frozen=True, slots=True)
class PauseStep:
    """The caller waits."""

    line: int
    seconds: float


Step: TypeAlias = SpokenStep | ToolStep | KeysStep | PauseStep

OPTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "agent": ("wav",),
    "caller": ("wav",),
    "interrupt": ("wav", "after"),
    "tool": ("arguments",),
    "keys": (),
    "pause": (),
}
"""The options of each kind of step."""


class StepReader:
    """Reads the steps of one file."""

    def __init__(self, errors: FileErrors) -> None:
        self._errors = errors
        self._readers: dict[str, Callable[[str, Node, Mapping[str, Node]], Step]] = {
            "agent": self._spoken,
            "caller": self._spoken,
            "interrupt": self._spoken,
            "tool": self._tool,
            "keys": self._keys,
            "pause": self._pause,
        }

    def read(self, node: Node) -> Step:
        """Return the step.

        Raises:
            DialogueError: the step is wrong.
        """
        if not isinstance(node.value, dict):
            raise self._errors.at(node.line, "a step is a map, such as `- agent: Good morning.`")
        kinds = [name for name in node.value if name in OPTIONS]
        if not kinds:
            raise self.unknown(node.line, "step", next(iter(node.value), ""), tuple(OPTIONS))
        if len(kinds) > 1:
            raise self._errors.at(
                node.line, f"{' and '.join(map(repr, kinds))} are two steps: begin each with a `-` of its own"
            )
        kind = kinds[0]
        for name, value in node.value.items():
            if name != kind and name not in OPTIONS[kind]:
                raise self.unknown(value.line, f"option of {kind!r}", name, OPTIONS[kind])
        return self._readers[kind](kind, node.value[kind], node.value)

    def text(self, node: Node, what: str, limit: int = MAX_TEXT_CHARACTERS) -> str:
        """Return a text of one line.

        Raises:
            DialogueError: there is none, or it is too long.
        """
        text = " ".join((node.text or "").split())
        if not text or len(text) > limit:
            raise self._errors.at(node.line, f"{what} must be a text of 1 to {limit} characters")
        return text

    def unknown(self, line: int, what: str, name: str, known: tuple[str, ...]) -> Exception:
        """Return the error for a name that does not exist."""
        near = nearest_word(name, known)
        hint = f"did you mean {near!r}?" if near else f"there are {', '.join(known)}" if known else "it has none"
        return self._errors.at(line, f"there is no {what} {name[:MAX_NAME_CHARACTERS]!r}: {hint}")

    def _spoken(self, kind: str, node: Node, step: Mapping[str, Node]) -> Step:
        wav = step.get("wav")
        after = step.get("after")
        return SpokenStep(
            node.line,
            kind,
            self.text(node, f"the line of {kind!r}"),
            None if wav is None else self.text(wav, "'wav'"),
            INTERRUPTS_AFTER_SECONDS if after is None else self._seconds(after, "'after'"),
        )

    def _tool(self, _kind: str, node: Node, step: Mapping[str, Node]) -> Step:
        arguments = step.get("arguments")
        given: Any = {} if arguments is None else arguments.plain()
        if not isinstance(given, dict):
            line = node.line if arguments is None else arguments.line
            raise self._errors.at(line, "'arguments' must be a map, such as `{people: 2}`")
        name = self.text(node, "the name of 'tool'", MAX_NAME_CHARACTERS)
        return ToolStep(node.line, name, orjson.dumps(given).decode())

    def _keys(self, _kind: str, node: Node, _step: Mapping[str, Node]) -> Step:
        digits = self.text(node, "'keys'", MAX_DIGITS)
        wrong = [each for each in digits if each not in DTMF_DIGITS]
        if wrong:
            raise self._errors.at(node.line, f"{wrong[0]!r} is not a key of a telephone: use {DTMF_DIGITS}")
        return KeysStep(node.line, digits)

    def _pause(self, _kind: str, node: Node, _step: Mapping[str, Node]) -> Step:
        return PauseStep(node.line, self._seconds(node, "'pause'"))

    def _seconds(self, node: Node, what: str) -> float:
        seconds = node.value
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= MAX_SECONDS:
            shown = "a list or map" if node.text is None else repr(node.text[:MAX_NAME_CHARACTERS])
            raise self._errors.at(node.line, f"{what} is {shown}: give seconds above 0, up to {MAX_SECONDS:g}")
        return float(seconds)

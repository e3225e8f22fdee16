"""The order of a dialogue's steps: what each side does in a call, or why no such call can happen."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from simulator.dialogue.dialogue import ENDS_CALL, Act, Dialogue, Exchange, Press, Say
from simulator.dialogue.errors import FileErrors
from simulator.dialogue.steps import KeysStep, PauseStep, SpokenStep, Step, ToolStep
from simulator.realtime.script import Line, Reply, Script, SpokenLine, Turn
from simulator.realtime.settings import ToolCall

_SHORTEST_REST_SECONDS: Final = 0.5
"""An interruption is noticed only after a moment, so that much of the agent's line must be left."""


@dataclass(slots=True)
class _Answer:
    """One response of the agent: a line, then calls of functions."""

    at: int
    line: Line | None
    calls: list[ToolStep] = field(default_factory=list)


@dataclass(slots=True)
class _Part:
    """An act of the caller, and the answers to it."""

    at: int
    act: Act | None
    pause_seconds: float = 0.0
    answers: list[_Answer] = field(default_factory=list)

    @property
    def tools(self) -> tuple[str, ...]:
        return tuple(call.name for answer in self.answers for call in answer.calls)


class StepOrder:
    """Puts steps into the order of a call, and refuses an order in which no call can happen."""

    def __init__(self, errors: FileErrors) -> None:
        self._errors = errors
        self._parts = [_Part(1, None)]
        self._pause: PauseStep | None = None

    def add(self, step: Step, line: Line | None) -> None:
        """Add the next step, with its line if it has one.

        Raises:
            DialogueError: the step cannot be there.
        """
        over = ENDS_CALL.intersection(self._parts[-1].tools)
        if over:
            raise self._errors.at(step.line, f"the call is over after {min(over)}: remove this step")
        match step:
            case PauseStep():
                self._refuse_pause()
                self._pause = step
            case ToolStep():
                self._refuse_pause()
                self._call(step)
            case KeysStep():
                self._act(step.line, Press(step.digits))
            case SpokenStep():
                assert line is not None
                self._speak(step, line)

    def dialogue(self, name: str, path: Path) -> Dialogue:
        """Return the dialogue after its last step.

        Raises:
            DialogueError: an answer is missing.
        """
        self._refuse_pause()
        self._close()
        turns = [
            Turn(
                part.act.line.text if isinstance(part.act, Say) else None,
                tuple(_reply(number, answer) for answer in part.answers),
            )
            for number, part in enumerate(self._parts)
        ]
        exchanges = [
            Exchange(
                part.act,
                part.pause_seconds,
                tuple(answer.line for answer in part.answers if answer.line is not None),
                part.tools,
            )
            for part in self._parts
        ]
        return Dialogue(name, path, Script(turns), tuple(exchanges))

    def _speak(self, step: SpokenStep, line: Line) -> None:
        if step.who == "agent":
            self._refuse_pause()
            self._say(step.line, line)
        elif step.who == "caller":
            self._act(step.line, Say(line))
        else:
            self._refuse_pause()
            self._refuse_interruption(step)
            self._act(step.line, Say(line, step.after_seconds))

    def _say(self, at: int, line: Line) -> None:
        answers = self._parts[-1].answers
        if answers and not answers[-1].calls:
            raise self._errors.at(
                at,
                f"the agent speaks in line {answers[-1].at} already: join both, or let the caller speak between",
            )
        answers.append(_Answer(at, line))

    def _call(self, step: ToolStep) -> None:
        answers = self._parts[-1].answers
        if not answers:
            answers.append(_Answer(step.line, None))
        answers[-1].calls.append(step)

    def _act(self, at: int, act: Act) -> None:
        pause, self._pause = self._pause, None
        self._close(at)
        self._parts.append(_Part(at, act, pause.seconds if pause is not None else 0.0))

    def _close(self, at: int | None = None) -> None:
        """Refuse an act of the caller, or the end, where an answer of the agent is missing."""
        part = self._parts[-1]
        if not part.answers:
            if part.act is None:
                raise self._errors.at(at or part.at, "the agent greets first: put a step of the agent before it")
            raise self._errors.at(part.at, "the agent answers each caller: put a step of the agent behind it")
        last = part.answers[-1]
        if last.calls and not ENDS_CALL.intersection(part.tools):
            raise self._errors.at(
                last.calls[-1].line, "the agent answers after a tool: put a step of the agent behind it"
            )

    def _refuse_interruption(self, step: SpokenStep) -> None:
        answers = self._parts[-1].answers
        last = answers[-1] if answers else None
        if last is None or last.line is None or last.calls:
            raise self._errors.at(step.line, "there is no line of the agent to interrupt: put one before it")
        if last.line.seconds < step.after_seconds + _SHORTEST_REST_SECONDS:
            raise self._errors.at(
                step.line,
                f"the agent's line in line {last.at} lasts {last.line.seconds:.1f} s, so it cannot be interrupted "
                f"after {step.after_seconds:g} s: give a smaller 'after'",
            )

    def _refuse_pause(self) -> None:
        if self._pause is not None:
            raise self._errors.at(self._pause.line, "only the caller pauses: put it before `caller` or `keys`")


def _reply(turn: int, answer: _Answer) -> Reply:
    return Reply(
        None if answer.line is None else SpokenLine(answer.line),
        tuple(ToolCall(turn, call.name, call.arguments) for call in answer.calls),
    )

"""A dialogue: what its two sides say and do, in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from simulator.realtime.script import Line, Script

TRANSFER = "avr_transfer"
HANG_UP = "avr_hangup"
ENDS_CALL = frozenset({TRANSFER, HANG_UP})
"""Functions after which the call is over."""


@dataclass(frozen=True, slots=True)
class Say:
    """The caller says a line.

    Attributes:
        line: the line.
        interrupts_after_seconds: time after which it interrupts the agent's line; None: it waits for its end.
    """

    line: Line
    interrupts_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Press:
    """The caller presses keys."""

    digits: str


Act: TypeAlias = Say | Press


@dataclass(frozen=True, slots=True)
class Exchange:
    """An act of the caller, and the agent's answer to it.

    Attributes:
        act: the caller's act; None: the call begins, and the agent greets.
        pause_seconds: time that the caller waits before the act, beyond the usual time.
        agent_lines: the agent's lines, in order.
        tools: names of the functions that the agent calls.
    """

    act: Act | None
    pause_seconds: float
    agent_lines: tuple[Line, ...]
    tools: tuple[str, ...]

    @property
    def ends_call(self) -> bool:
        """Tell whether the call is over after it."""
        return bool(ENDS_CALL.intersection(self.tools))


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A whole dialogue.

    Attributes:
        name: its name.
        path: its file.
        script: the model's side.
        exchanges: the caller's side; the greeting is first.
    """

    name: str
    path: Path
    script: Script = field(repr=False)
    exchanges: tuple[Exchange, ...]

    @property
    def tools_dir(self) -> Path:
        """Return the folder of the tools that the agent may call; it need not exist."""
        return self.path.absolute().parent / "tools"

    @property
    def seconds(self) -> float:
        """Return the length of all that is said and heard, without the waits between."""
        seconds = 0.0
        before: tuple[Line, ...] = ()
        for exchange in self.exchanges:
            if isinstance(exchange.act, Say):
                seconds += exchange.act.line.seconds
                if exchange.act.interrupts_after_seconds is not None:
                    seconds -= before[-1].seconds - exchange.act.interrupts_after_seconds
            seconds += sum(line.seconds for line in exchange.agent_lines)
            before = exchange.agent_lines
        return seconds

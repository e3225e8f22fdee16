"""The record of what a session has measured and used, for the record of its call."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from common.link.kinds import Kind


@dataclass(frozen=True, slots=True)
class ToolFigure:
    """One call of a tool.

    Attributes:
        name: of the tool; `other` for a name that the model made up.
        seconds: from the call to its output.
        outcome: `completed`, `failed`, `timed_out` or `refused`.
    """

    name: str = ""
    seconds: float = 0.0
    outcome: str = ""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one session has measured and used so far; it replaces the session's earlier figures.

    Attributes:
        session: the epoch at which the session was opened, which names it among the sessions of the call.
        model: of the session.
        voice: of the session.
        latencies_ms: from the end of the caller's speech to the first audio of the reply, one for each turn.
        tools: calls of tools that have ended, in order.
        tools_left_out: number of further calls of tools.
        tokens: numbers by model and class, as in `CallRecord.tokens`.
        transcription_seconds: length of audio that was transcribed and is charged by its length.
        cost_usd: of all tokens and transcriptions whose prices are known.
        answers_retried: number of answers that were requested again.
        answers_given_up: number of answers that did not come.
        end_of_speech_ms: of each of `latencies_ms`, the part until the turn was known to have ended. Empty: the
            worker is of a release that does not say.
        model_ms: the part in which the API worked. The service's own part is the rest.
    """

    kind: ClassVar[Kind] = Kind.FIGURES
    session: int = 0
    model: str = ""
    voice: str = ""
    latencies_ms: tuple[int, ...] = ()
    tools: tuple[ToolFigure, ...] = ()
    tools_left_out: int = 0
    tokens: dict[str, Any] = field(default_factory=dict)
    transcription_seconds: float = 0.0
    cost_usd: float = 0.0
    answers_retried: int = 0
    answers_given_up: int = 0
    end_of_speech_ms: tuple[int, ...] = ()
    model_ms: tuple[int, ...] = ()

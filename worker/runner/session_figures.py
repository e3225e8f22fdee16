"""What one session measures and uses, gathered for the record of its call."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from common.link import wire
from common.observe.metrics import TURN_PARTS
from worker.realtime.usage import TranscriptionUsage, Usage

MAX_LATENCIES: Final = 1000
"""Turns whose latency is kept: more than the hour of a session has. Later ones are not part of the record."""

END_OF_SPEECH, MODEL, _ = TURN_PARTS

MAX_TOOLS: Final = 200
"""Calls of tools that are kept; later ones are counted."""

MAX_MODELS: Final = 8
"""Models whose tokens are kept apart: a session has two. A call may bring any name."""


class SessionFigures:
    """Figures of one session.

    Attributes:
        session: the epoch at which the session was opened.
        is_changed: there is something that `take` has not returned yet.
    """

    def __init__(self, session: int) -> None:
        self.session = session
        self.is_changed = False
        self._model = ""
        self._voice = ""
        self._latencies_ms: list[int] = []
        self._parts_ms: dict[str, list[int]] = {part: [] for part in TURN_PARTS}
        self._tools: list[wire.ToolFigure] = []
        self._tools_left_out = 0
        self._tokens: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
        self._transcription_seconds = 0.0
        self._cost_usd = 0.0
        self._answers_retried = 0
        self._answers_given_up = 0

    def speaks(self, model: str, voice: str) -> None:
        """Note the session's model and voice."""
        self._model, self._voice = model, voice
        self.is_changed = True

    def answered(self, latency_seconds: float) -> None:
        """Add a turn that got its answer."""
        if len(self._latencies_ms) < MAX_LATENCIES:
            self._latencies_ms.append(round(1000 * latency_seconds))
            self.is_changed = True

    def took(self, part: str, seconds: float) -> None:
        """Add a part (TURN_PARTS) of the turn that was added last."""
        if len(self._parts_ms[part]) < len(self._latencies_ms):
            self._parts_ms[part].append(round(1000 * seconds))
            self.is_changed = True

    def retried(self) -> None:
        """Count an answer that was requested again."""
        self._answers_retried += 1
        self.is_changed = True

    def gave_up(self) -> None:
        """Count an answer that did not come."""
        self._answers_given_up += 1
        self.is_changed = True

    def tool_ended(self, name: str, seconds: float, outcome: str) -> None:
        """Add a call of a tool."""
        if len(self._tools) < MAX_TOOLS:
            self._tools.append(wire.ToolFigure(name, round(seconds, 3), outcome))
        else:
            self._tools_left_out += 1
        self.is_changed = True

    def used(self, model: str, usage: Usage, cost_usd: float | None) -> None:
        """Add the tokens of a response, and their cost if the price is known."""
        self._add(
            model,
            input_text=usage.input_text,
            input_audio=usage.input_audio,
            cached_text=usage.cached_text,
            cached_audio=usage.cached_audio,
            output_text=usage.output_text,
            output_audio=usage.output_audio,
        )
        self._cost_usd += cost_usd or 0.0

    def transcribed(self, model: str, usage: TranscriptionUsage, cost_usd: float | None) -> None:
        """Add the tokens or the length of a transcription, and its cost if the price is known."""
        self._add(model, input_text=usage.input_text, input_audio=usage.input_audio, output_text=usage.output_text)
        self._transcription_seconds += usage.seconds or 0.0
        self._cost_usd += cost_usd or 0.0

    def take(self) -> wire.Figures:
        """Return all figures."""
        self.is_changed = False
        return wire.Figures(
            self.session,
            self._model,
            self._voice,
            tuple(self._latencies_ms),
            tuple(self._tools),
            self._tools_left_out,
            {model: dict(tokens) for model, tokens in self._tokens.items()},
            round(self._transcription_seconds, 3),
            round(self._cost_usd, 6),
            self._answers_retried,
            self._answers_given_up,
            tuple(self._parts_ms[END_OF_SPEECH]),
            tuple(self._parts_ms[MODEL]),
        )

    def _add(self, model: str, **tokens: int) -> None:
        self.is_changed = True
        if model not in self._tokens and len(self._tokens) >= MAX_MODELS:
            model = next(reversed(self._tokens))
        for name, count in tokens.items():
            if count:
                self._tokens[model][name] += count

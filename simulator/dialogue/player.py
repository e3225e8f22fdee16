"""The caller of a dialogue: it says its lines when their turns come, and notes when it did."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from simulator.avr.core import CallError, SimulatedCall
from simulator.avr.playout import SAMPLE_RATE_HZ
from simulator.dialogue.dialogue import Act, Dialogue, Exchange, Press, Say

PAUSE_SECONDS: Final = 0.6
"""Silence after the agent's line before the caller speaks: longer than the gap of a late frame."""

PATIENCE_SECONDS: Final = 20.0


class DialogueStalled(Exception):
    """The agent did not do what the dialogue says. The message is one line."""


@dataclass(frozen=True, slots=True)
class Acted:
    """An act of the caller, in samples since the call began.

    Attributes:
        act: the act; None: the call began.
        start_sample: start.
        end_sample: end.
    """

    act: Act | None
    start_sample: int
    end_sample: int


class DialoguePlayer:
    """Plays the caller's side of a dialogue in a live call.

    Args:
        call: the call.
        dialogue: the dialogue.
        patience_seconds: maximum time that an answer may take, beyond the length of its lines.

    Attributes:
        acted: what the caller has done, in order; the call's begin is first.
    """

    def __init__(
        self, call: SimulatedCall, dialogue: Dialogue, *, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self.acted = [Acted(None, 0, 0)]
        self._call = call
        self._dialogue = dialogue
        self._patience_seconds = patience_seconds
        self._lines = 0  # of the agent that must have been heard
        self._first_sample = 0  # received in answer to the last act

    async def play(self) -> None:
        """Play the dialogue to its end.

        A dialogue that ends with a transfer or a hang-up ends when the call is closed, else after the last line.

        Raises:
            DialogueStalled: the agent does not answer, or ends the call early.
        """
        before: Exchange | None = None
        try:
            for exchange in self._dialogue.exchanges:
                if exchange.act is not None and before is not None:
                    await self._wait_for_turn(exchange, before)
                    await self._do(exchange.act)
                self._lines += len(exchange.agent_lines)
                before = exchange
            assert before is not None
            await self._wait_for_end(before)
        except CallError as error:
            raise DialogueStalled(f"the call ended early: {error}") from None

    async def _wait_for_turn(self, exchange: Exchange, before: Exchange) -> None:
        act = exchange.act
        lines = before.agent_lines
        seconds = sum(line.seconds for line in lines)
        if isinstance(act, Say) and act.interrupts_after_seconds is not None:
            heard = seconds - lines[-1].seconds + act.interrupts_after_seconds
            await self._wait(
                lambda: self._heard_seconds() >= heard, seconds, f"no line to interrupt: {lines[-1].text}"
            )
            return
        pause = PAUSE_SECONDS + exchange.pause_seconds
        await self._wait(lambda: self._has_answered(pause), seconds + pause, _missing(before))

    async def _wait_for_end(self, last: Exchange) -> None:
        seconds = sum(line.seconds for line in last.agent_lines)
        if last.ends_call:
            await self._wait(self._call.closed.is_set, seconds, f"{last.tools[-1]} did not end the call")
        else:
            await self._wait(lambda: self._has_answered(PAUSE_SECONDS), seconds, _missing(last))

    async def _do(self, act: Act) -> None:
        utterances = self._call.record.caller.utterances
        count, start = len(utterances), self._now_sample()
        if isinstance(act, Press):
            await self._call.press(act.digits)
        else:
            await self._call.say(act.line.pcm)
        spoken = utterances[count:]
        if spoken:
            self.acted.append(Acted(act, spoken[0].start_sample, spoken[-1].end_sample))
        else:
            self.acted.append(Acted(act, start, self._now_sample()))
        self._first_sample = self._call.playout.received_samples

    def _has_answered(self, pause_seconds: float) -> bool:
        call = self._call
        heard = sum(transcript.role == "agent" for transcript in call.transcripts) >= self._lines
        return heard and call.playout.silent_ms(time.monotonic()) >= pause_seconds * 1000

    def _heard_seconds(self) -> float:
        """Return the length of the answer to the last act, as far as it was heard."""
        return self._call.playout.heard_samples(time.monotonic(), self._first_sample) / SAMPLE_RATE_HZ

    def _now_sample(self) -> int:
        return round((time.monotonic() - self._call.playout.started_at_seconds) * SAMPLE_RATE_HZ)

    async def _wait(self, condition: Callable[[], bool], seconds: float, failure: str) -> None:
        try:
            await self._call.wait_for(lambda _call: condition(), timeout_seconds=seconds + self._patience_seconds)
        except TimeoutError:
            raise DialogueStalled(f"{failure} (waited {seconds + self._patience_seconds:.0f} s)") from None


def _missing(exchange: Exchange) -> str:
    return f"the agent did not say all of: {' '.join(line.text for line in exchange.agent_lines)}"

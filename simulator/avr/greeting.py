"""The wait of a polite caller: until the agent has greeted."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from simulator.avr.core import SimulatedCall


@dataclass(frozen=True, slots=True)
class GreetingLimits:
    """The bounds of the wait.

    Attributes:
        start_seconds: the greeting must begin within this time.
        length_seconds: the greeting must end within this time.
        pause_seconds: so much silence ends the greeting. It is longer than the gap of a late frame.
    """

    start_seconds: float = 10.0
    length_seconds: float = 60.0
    pause_seconds: float = 0.5


DEFAULT_GREETING_LIMITS: Final = GreetingLimits()


async def wait_for_greeting(call: SimulatedCall, limits: GreetingLimits = DEFAULT_GREETING_LIMITS) -> str:
    """Wait until the agent's greeting has been heard; return the reason if the wait ended without that.

    Raises:
        CallError: the call ended first.
    """
    try:
        await call.wait_for(lambda call: call.playout.received_samples, timeout_seconds=limits.start_seconds)
    except TimeoutError:
        return f"no greeting within {limits.start_seconds:g} s"

    def has_ended(call: SimulatedCall) -> bool:
        return call.playout.silent_ms(time.monotonic()) >= limits.pause_seconds * 1000

    try:
        await call.wait_for(has_ended, timeout_seconds=limits.length_seconds)
    except TimeoutError:
        return f"a greeting longer than {limits.length_seconds:g} s"
    return ""

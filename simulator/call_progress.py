"""The progress of a simulated call with long speech, on a terminal."""

from __future__ import annotations

import asyncio
from typing import Final

from common.observe.status_line import StatusLine
from simulator.avr.core import SimulatedCall
from simulator.avr.playout import SAMPLE_BYTES, SAMPLE_RATE_HZ

LONG_SECONDS: Final = 5.0
"""Shorter speech has ended before a person asks for its progress."""

UPDATE_SECONDS: Final = 0.5


def speech_seconds(speech: bytes | int) -> float:
    """Return the length of PCM16 at 8 kHz, or of so many bytes of it."""
    size = speech if isinstance(speech, int) else len(speech)
    return size / (SAMPLE_RATE_HZ * SAMPLE_BYTES)


def progress(call: SimulatedCall, total_seconds: float) -> str:
    """Return the line: how much of the speech has been said, and how many replies have come."""
    said_seconds = speech_seconds(call.microphone.said_bytes)
    replies = sum(1 for transcript in call.transcripts if transcript.role == "agent")
    if not call.microphone.said_bytes and not call.microphone.has_speech:
        return "waiting for the end of the greeting"
    if not call.microphone.has_speech:
        return f"all is said, {replies} replies so far: waiting for silence"
    return f"said {said_seconds:.0f} of {total_seconds:.0f} s, {replies} replies so far"


async def show_call(line: StatusLine, call: SimulatedCall, total_seconds: float) -> None:
    """Show the progress until cancelled, if the speech is long; then remove the line."""
    try:
        while line.is_on_terminal and total_seconds >= LONG_SECONDS:
            line.show(progress(call, total_seconds))
            await asyncio.sleep(UPDATE_SECONDS)
    finally:
        line.clear()

"""Faults of the Realtime API in running sessions, without a lost connection.

Most of these faults wait for the session's next response or speech. The simulator reports when they strike.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

from tests.chaos.facts import Fault, FaultKind
from tests.chaos.pace import Pace
from tests.chaos.world import World

_REFUSAL_CODES = ("server_error", "rate_limit_exceeded", "invalid_value")
_TEXT_EVENTS = (
    "response.output_audio_transcript.delta",
    "response.output_audio_transcript.done",
    "response.function_call_arguments.done",
    "response.output_item.done",
    "response.done",
    "conversation.item.input_audio_transcription.completed",
)
_STATUSES = (503, 500, 429)


async def fail_answer(world: World, _: Pace, rng: random.Random) -> bool:
    """Fail the next response, or the next two, before any of their audio."""
    how = {"output": rng.choice(("item", "none")), "times": rng.choice((1, 1, 2))}
    return await _of_a_session(world, rng, FaultKind.FAIL_ANSWER, "end_response", **how)


async def cut_answer(world: World, _: Pace, rng: random.Random) -> bool:
    """End the next response after a part of its audio."""
    how = rng.choice(({"status": "failed"}, {"status": "incomplete", "reason": "max_output_tokens"}))
    after_ms = rng.randrange(300, 2000)
    return await _of_a_session(world, rng, FaultKind.CUT_ANSWER, "end_response", after_ms=after_ms, **how)


async def limit_answer(world: World, _: Pace, rng: random.Random) -> bool:
    """Fail the next response with a request to wait 3 s."""
    how = {"code": "rate_limit_exceeded", "output": "none"}
    return await _of_a_session(world, rng, FaultKind.LIMIT_ANSWER, "end_response", **how)


async def empty_answer(world: World, _: Pace, rng: random.Random) -> bool:
    """End the next responses without audio: up to three, so that a worker has to apologize."""
    how: dict[str, Any] = rng.choice(
        (
            {"status": "completed"},
            {"status": "completed", "output": "text"},
            {"status": "incomplete", "output": "none"},
        )
    )
    times = rng.choice((1, 1, 2, 3))
    return await _of_a_session(world, rng, FaultKind.EMPTY_ANSWER, "end_response", times=times, **how)


async def error_in_answer(world: World, _: Pace, rng: random.Random) -> bool:
    """End the next response with an `error` event, without `response.done`."""
    after_ms = rng.choice((0, 600, 1500))
    return await _of_a_session(world, rng, FaultKind.ERROR_IN_ANSWER, "silent_response", after_ms=after_ms)


async def lose_done(world: World, _: Pace, rng: random.Random) -> bool:
    """Send the next response without `response.done`; it may stay active."""
    how = {"after_ms": None, "error": False, "active": rng.random() < 0.5}
    return await _of_a_session(world, rng, FaultKind.LOSE_DONE, "silent_response", **how)


async def refuse_answer(world: World, _: Pace, rng: random.Random) -> bool:
    """Answer the next `response.create` of any call (a greeting, a tool's output) with an error."""
    world.hit(Fault(FaultKind.REFUSE_ANSWER, time.monotonic()))
    how = {"code": rng.choice(_REFUSAL_CODES), "event_id": rng.choice(("echo", "null"))}
    return await world.realtime.fault("refuse_event", event_type="response.create", **how)


async def late_answer(world: World, pace: Pace, rng: random.Random) -> bool:
    """Create the next response late, and refuse requests that are repeated meanwhile."""
    seconds = pace.late_seconds
    return await _of_a_session(world, rng, FaultKind.LATE_ANSWER, "late_response", seconds=seconds)


async def lone_surrogate(world: World, _: Pace, rng: random.Random) -> bool:
    """Add an escape that `orjson` refuses to the model's next texts, arguments and transcripts."""
    victim = await world.session(rng)
    if victim is None:
        return False
    uuid, report = victim
    world.hit(Fault(FaultKind.LONE_SURROGATE, time.monotonic(), frozenset({uuid})))
    return all(
        [await world.realtime.fault("garble", session=report["id"], event_type=kind) for kind in _TEXT_EVENTS]
    )


async def endless_speech(world: World, _: Pace, rng: random.Random) -> bool:
    """Do not report the end of the caller's next words."""
    return await _of_a_session(world, rng, FaultKind.ENDLESS_SPEECH, "endless_speech")


async def outage(world: World, pace: Pace, rng: random.Random) -> bool:
    """Refuse all connections and fail all responses for a while."""
    seconds, status = pace.outage_seconds, rng.choice(_STATUSES)
    fault = Fault(FaultKind.OUTAGE, time.monotonic(), frozenset(world.callers), lasts=True, detail=str(status))
    world.hit(fault)
    await world.realtime.fault("outage", seconds=seconds, status=status)
    await asyncio.sleep(seconds)
    world.hits_newcomers(fault)
    fault.until_seconds = time.monotonic()
    return True


async def _of_a_session(world: World, rng: random.Random, kind: FaultKind, command: str, **arguments: Any) -> bool:
    victim = await world.session(rng)
    if victim is None:
        return False
    uuid, report = victim
    detail = " ".join(f"{name}={value}" for name, value in arguments.items())
    world.hit(Fault(kind, time.monotonic(), frozenset({uuid}), detail=detail))
    return await world.realtime.fault(command, session=report["id"], **arguments)

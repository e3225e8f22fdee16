"""Faults of the service by kind: each function finds a victim, notes the calls that it hits, and cleans up."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from typing import TypeVar

from tests.chaos import sockets
from tests.chaos.facts import Fault, FaultKind
from tests.chaos.pace import Pace
from tests.chaos.victims import (
    any_dispatcher,
    any_pair,
    any_talker,
    any_worker,
    frozen_redis,
    none_stopped,
    redis_fault,
    whole_redis,
    woke_without_redis,
)
from tests.chaos.world import DISPATCHER_DRAIN_SECONDS, Member, World

T = TypeVar("T")

# A link that is broken for a while is cut each time it is attached again.
_CUT_INTERVAL_SECONDS = 0.1
_REDIS_NOTICED_SECONDS = 0.5
# Time for which Redis stays away after the death of a worker.
_REDIS_AWAY_SECONDS = 4.0
# Time in which a caller with a broken connection returns, at any dispatcher.
_BACK_SECONDS = 1.0
_REFUSALS = (503, 429, 500)


# Workers


async def kill_worker(world: World, _: Pace, rng: random.Random) -> bool:
    """Send SIGKILL to a worker, and start another."""
    worker = await any_worker(world, rng)
    if worker is None:
        return False
    await _kill_worker(world, worker, FaultKind.KILL_WORKER)
    await world.add_worker()
    return True


async def stop_worker(world: World, pace: Pace, rng: random.Random) -> bool:
    """Send SIGSTOP to a worker, and SIGCONT after a while."""
    worker = await any_worker(world, rng)
    if worker is None:
        return False
    frozen, calls = await world.hold(worker)
    fault = Fault(FaultKind.STOP_WORKER, frozen.from_seconds, calls, lasts=True, detail=worker.id)
    world.hit(fault)
    try:
        await asyncio.sleep(pace.stop_seconds)
    finally:
        frozen.until_seconds = fault.until_seconds = time.monotonic()
        worker.process.signal(signal.SIGCONT)
        worker.stopped = False
    return True


async def drain_worker(world: World, _: Pace, rng: random.Random) -> bool:
    """Send SIGTERM to a worker after another has started, as in a rollout."""
    new = await world.add_worker()
    worker = await any_worker(world, rng, but=new)
    if worker is None:
        return True  # all others have ended meanwhile, so none is left to replace
    calls = await world.calls_on(worker)
    world.hit(Fault(FaultKind.DRAIN_WORKER, time.monotonic(), calls, detail=worker.id))
    await world.tell_to_stop(worker, drain_seconds=worker.drain_seconds)
    return True


async def _kill_worker(world: World, worker: Member, kind: FaultKind) -> None:
    frozen, calls = await world.hold(worker)
    frozen.until_seconds = time.monotonic()
    world.hit(Fault(kind, frozen.until_seconds, calls, detail=worker.id))
    await world.kill(worker)


# Links


async def cut_link(world: World, _: Pace, rng: random.Random) -> bool:
    """Shut down one end of a link, which can be attached again at once."""
    pair = await any_pair(world, rng)
    if pair is None:
        return False
    dispatcher, worker, calls = pair
    fault = Fault(FaultKind.CUT_LINK, time.monotonic(), calls, detail=f"{dispatcher.id} to {worker.id}")
    world.hit(fault)
    return await _cut(dispatcher, worker) > 0


async def break_link(world: World, pace: Pace, rng: random.Random) -> bool:
    """Cut a link again and again for a while."""
    pair = await any_pair(world, rng)
    if pair is None:
        return False
    dispatcher, worker, calls = pair
    detail = f"{dispatcher.id} to {worker.id}"
    fault = Fault(FaultKind.BREAK_LINK, time.monotonic(), calls, lasts=True, detail=detail)
    world.hit(fault)
    until_seconds = fault.at_seconds + pace.link_seconds
    while time.monotonic() < until_seconds and dispatcher.is_well and worker.is_well:
        await _cut(dispatcher, worker)
        await asyncio.sleep(_CUT_INTERVAL_SECONDS)
    fault.until_seconds = time.monotonic()
    return True


async def _cut(dispatcher: Member, worker: Member) -> int:
    return await asyncio.to_thread(sockets.cut, worker.process.pid, worker.port, dispatcher.process.pid)


# The Realtime API


async def drop_session(world: World, _: Pace, rng: random.Random) -> bool:
    """Drop a session's connection without a close frame."""
    return await _fault_of_a_session(world, rng, FaultKind.DROP_SESSION, "drop")


async def expire_session(world: World, _: Pace, rng: random.Random) -> bool:
    """End a session by its limit."""
    return await _fault_of_a_session(world, rng, FaultKind.EXPIRE_SESSION, "expire")


async def stall_session(world: World, pace: Pace, rng: random.Random) -> bool:
    """Stop the API's reading and writing of a session for a while."""
    session = await world.session(rng)
    if session is None:
        return False
    uuid, report = session
    fault = Fault(FaultKind.STALL_SESSION, time.monotonic(), frozenset({uuid}), lasts=True)
    world.hit(fault)
    await world.realtime.fault("stall", session=report["id"])
    try:
        await asyncio.sleep(pace.stall_seconds)
    finally:
        fault.until_seconds = time.monotonic()
        await world.realtime.fault("resume", session=report["id"])
    return True


async def refuse_sessions(world: World, pace: Pace, rng: random.Random) -> bool:
    """Answer new connections with 5xx or 429 for a while, while a call needs one."""
    session = await world.session(rng)
    if session is None:
        return False
    uuid, report = session
    status = rng.choice(_REFUSALS)
    calls = frozenset(world.callers)  # calls that begin, or lose their session meanwhile
    fault = Fault(FaultKind.REFUSE_SESSIONS, time.monotonic(), calls, lasts=True, detail=f"{status} ({uuid})")
    world.hit(fault)
    await world.realtime.fault("refuse", status=status, seconds=pace.refuse_seconds)
    await world.realtime.fault("drop", session=report["id"])
    await asyncio.sleep(pace.refuse_seconds)
    world.hits_newcomers(fault)
    fault.until_seconds = time.monotonic()
    return True


async def _fault_of_a_session(world: World, rng: random.Random, kind: FaultKind, command: str) -> bool:
    session = await world.session(rng)
    if session is None:
        return False
    uuid, report = session
    world.hit(Fault(kind, time.monotonic(), frozenset({uuid})))
    return await world.realtime.fault(command, session=report["id"])


# Dispatchers and callers


async def kill_dispatcher(world: World, pace: Pace, rng: random.Random) -> bool:
    """Send SIGKILL to a dispatcher and start another; callers return to any dispatcher.

    Not while a worker is stopped: with both gone, a caller's words without a text yet are lost (guarantees.md).
    """
    async with whole_redis(world, pace):
        await none_stopped(world, pace)
        dispatcher = any_dispatcher(world, rng)
        if dispatcher is None:
            return False
        await _kill_dispatcher(world, dispatcher, FaultKind.KILL_DISPATCHER)
        # The calls of a stopped worker are known to Redis alone, until the stop is detected.
        await none_stopped(world, pace)
        await world.add_dispatcher()
        return True


async def _kill_dispatcher(world: World, dispatcher: Member, kind: FaultKind) -> None:
    world.hit(Fault(kind, time.monotonic(), world.calls_at(dispatcher), detail=dispatcher.id))
    await world.kill(dispatcher)


async def drain_dispatcher(world: World, pace: Pace, rng: random.Random) -> bool:
    """Send SIGTERM to a dispatcher after another has started; its calls end in their own time."""
    async with whole_redis(world, pace):
        new = await world.add_dispatcher()
    dispatcher = any_dispatcher(world, rng, but=new)
    if dispatcher is None:
        return True  # all others have ended meanwhile, so none is left to replace
    calls = world.calls_at(dispatcher)
    world.hit(Fault(FaultKind.DRAIN_DISPATCHER, time.monotonic(), calls, detail=dispatcher.id))
    await world.tell_to_stop(dispatcher, drain_seconds=DISPATCHER_DRAIN_SECONDS)
    return True


async def cut_caller(world: World, pace: Pace, rng: random.Random) -> bool:
    """Break a caller's connection, which then returns."""
    async with whole_redis(world, pace):
        caller = any_talker(world, rng)
        if caller is None or caller.call is None:
            return False
        world.hit(Fault(FaultKind.CUT_CALLER, time.monotonic(), frozenset({caller.uuid})))
        await caller.call.cut()
        await asyncio.sleep(_BACK_SECONDS)
    return True


async def stalled_core(world: World, pace: Pace, rng: random.Random) -> bool:
    """Let a core stop reading for a while."""
    caller = any_talker(world, rng)
    if caller is None:
        return False
    fault = Fault(FaultKind.STALLED_CORE, time.monotonic(), frozenset({caller.uuid}), lasts=True)
    world.hit(fault)
    caller.stall()
    try:
        await asyncio.sleep(pace.core_stall_seconds)
    finally:
        caller.resume()
        fault.until_seconds = time.monotonic()
    return True


async def flooding_core(world: World, _: Pace, rng: random.Random) -> bool:
    """Let a core send audio as fast as it can."""
    caller = any_talker(world, rng)
    if caller is None:
        return False
    world.hit(Fault(FaultKind.FLOODING_CORE, time.monotonic(), frozenset({caller.uuid})))
    await caller.flood()
    return True


# Redis: one fault at a time; the next waits for it


async def kill_redis(world: World, _: Pace, rng: random.Random) -> bool:
    """Send SIGKILL to Redis, and restart it empty."""
    async with redis_fault(world, FaultKind.KILL_REDIS):
        await asyncio.to_thread(world.redis.kill)
        await asyncio.sleep(rng.uniform(0.2, 3.0))
        await asyncio.to_thread(world.redis.start)
    return True


async def pause_redis(world: World, pace: Pace, _: random.Random) -> bool:
    """Let Redis accept connections, but answer nothing for a while."""
    async with redis_fault(world, FaultKind.PAUSE_REDIS), frozen_redis(world):
        await asyncio.sleep(pace.redis_seconds)
    return True


async def flush_redis(world: World, _: Pace, __: random.Random) -> bool:
    """Send FLUSHALL."""
    async with redis_fault(world, FaultKind.FLUSH_REDIS):
        await asyncio.to_thread(world.flush_redis)
    return True


async def kill_worker_without_redis(world: World, pace: Pace, rng: random.Random) -> bool:
    """Pause Redis, kill a worker, resume Redis, and start another worker."""
    async with redis_fault(world, FaultKind.PAUSE_REDIS), frozen_redis(world):
        await asyncio.sleep(_REDIS_NOTICED_SECONDS)
        worker = await any_worker(world, rng)
        if worker is not None:
            await _kill_worker(world, worker, FaultKind.KILL_WORKER_WITHOUT_REDIS)
        await asyncio.sleep(min(pace.redis_seconds, _REDIS_AWAY_SECONDS))
    if worker is not None:
        await world.add_worker()
    return worker is not None


async def kill_dispatcher_without_redis(world: World, pace: Pace, rng: random.Random) -> bool:
    """Pause Redis, then kill a dispatcher: its callers return to one that has to ask the workers.

    A stopped worker cannot answer. With all three away, no process knows its calls, and the calls start again
    (guarantees.md). So this fault waits until no worker is stopped.
    """
    async with redis_fault(world, FaultKind.PAUSE_REDIS), frozen_redis(world):
        await asyncio.sleep(_REDIS_NOTICED_SECONDS)
        await none_stopped(world, pace)
        dispatcher = None if woke_without_redis(world) else any_dispatcher(world, rng)
        if dispatcher is not None:
            await _kill_dispatcher(world, dispatcher, FaultKind.KILL_DISPATCHER_WITHOUT_REDIS)
        await asyncio.sleep(min(pace.redis_seconds, _REDIS_AWAY_SECONDS))
    if dispatcher is not None:
        await world.add_dispatcher()
    return dispatcher is not None

"""What is done to the service, kind by kind: each finds a victim, notes whom it hits, and clears up behind it."""

from __future__ import annotations

import asyncio
import math
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from tests.chaos import api_faults, sockets
from tests.chaos.callers import Caller
from tests.chaos.facts import Fault, FaultKind, Frozen, Part
from tests.chaos.pace import Pace
from tests.chaos.world import DISPATCHER_DRAIN_SECONDS, WORKER_DRAIN_SECONDS, Member, World
from tests.helpers import eventually

T = TypeVar("T")

# A link that is broken for a while is cut as often as it is attached again.
_CUT_INTERVAL_SECONDS = 0.1
_REDIS_NOTICED_SECONDS = 0.5
# Redis stays away so long behind the death of a worker.
_REDIS_AWAY_SECONDS = 4.0
# A worker is known to all dispatchers so long after it has started.
_KNOWN_SECONDS = 2.0
# The victim and another one.
_AT_LEAST = 2
# A caller whose connection was cut is back, at whichever dispatcher.
_BACK_SECONDS = 1.0
_REFUSALS = (503, 429, 500)


class Over(Exception):
    """The run is over: what waited for Redis until now is not done any more."""


Act = Callable[[World, Pace, random.Random], Awaitable[bool]]
"""Carries a fault out, to its end; False if there is nothing and nobody now that it could be done to.

Raises:
    Over: there is no time for it.
"""


# Workers


async def kill_worker(world: World, _: Pace, rng: random.Random) -> bool:
    """SIGKILL; another one is started."""
    worker = await _worker(world, rng)
    if worker is None:
        return False
    await _kill_worker(world, worker, FaultKind.KILL_WORKER)
    await world.add_worker()
    return True


async def stop_worker(world: World, pace: Pace, rng: random.Random) -> bool:
    """SIGSTOP, and SIGCONT after a while."""
    worker = await _worker(world, rng)
    if worker is None:
        return False
    worker.stopped = True
    calls = await world.calls_on(worker)
    peers = await asyncio.to_thread(sockets.peers_of, worker.process.pid, world.realtime.port)
    fault = Fault(FaultKind.STOP_WORKER, time.monotonic(), calls, lasts=True, detail=worker.id)
    frozen = Frozen(fault.at_seconds, math.inf, peers)
    world.book.frozen.append(frozen)
    world.hit(fault)
    worker.process.signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(pace.stop_seconds)
    finally:
        frozen.until_seconds = fault.until_seconds = time.monotonic()
        worker.process.signal(signal.SIGCONT)
        worker.stopped = False
    return True


async def drain_worker(world: World, _: Pace, rng: random.Random) -> bool:
    """SIGTERM to one, behind the start of another: a rollout."""
    new = await world.add_worker()
    worker = await _worker(world, rng, but=new)
    if worker is None:
        return True  # all others have gone meanwhile: there is nobody to replace
    calls = await world.calls_on(worker)
    world.hit(Fault(FaultKind.DRAIN_WORKER, time.monotonic(), calls, detail=worker.id))
    await world.tell_to_stop(worker, drain_seconds=WORKER_DRAIN_SECONDS)
    return True


def _woke_without_redis(world: World) -> bool:
    """Whether a worker was stopped since Redis is away: only the dispatchers of its calls know it again."""
    left_seconds = world.redis_left_seconds
    return left_seconds is not None and any(each.until_seconds >= left_seconds for each in world.book.frozen)


async def _none_stopped(world: World, pace: Pace) -> None:
    await eventually(lambda: not any(worker.stopped for worker in world.workers), 2 * pace.stop_seconds)


async def _kill_worker(world: World, worker: Member, kind: FaultKind) -> None:
    calls = await world.calls_on(worker)
    world.hit(Fault(kind, time.monotonic(), calls, detail=worker.id))
    await world.kill(worker)


# Links


async def cut_link(world: World, _: Pace, rng: random.Random) -> bool:
    """One end of a link is shut down; it can be attached again at once."""
    pair = await _pair(world, rng)
    if pair is None:
        return False
    dispatcher, worker, calls = pair
    fault = Fault(FaultKind.CUT_LINK, time.monotonic(), calls, detail=f"{dispatcher.id} to {worker.id}")
    world.hit(fault)
    return await _cut(dispatcher, worker) > 0


async def break_link(world: World, pace: Pace, rng: random.Random) -> bool:
    """A link is cut again and again for a while."""
    pair = await _pair(world, rng)
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


async def _pair(world: World, rng: random.Random) -> tuple[Member, Member, frozenset[str]] | None:
    """A dispatcher, a worker, and the calls on the link between them: one that has any, if there is one."""
    pairs = [
        (dispatcher, worker, calls & world.calls_at(dispatcher))
        for worker in _well(world.workers)
        for calls in [await world.calls_on(worker)]
        for dispatcher in _well(world.dispatchers)
    ]
    return rng.choice([pair for pair in pairs if pair[2]] or pairs) if pairs else None


# The Realtime API


async def drop_session(world: World, _: Pace, rng: random.Random) -> bool:
    """The connection is cut without a close frame."""
    return await _fault_of_a_session(world, rng, FaultKind.DROP_SESSION, "drop")


async def expire_session(world: World, _: Pace, rng: random.Random) -> bool:
    """The session reaches its limit."""
    return await _fault_of_a_session(world, rng, FaultKind.EXPIRE_SESSION, "expire")


async def stall_session(world: World, pace: Pace, rng: random.Random) -> bool:
    """The API neither reads nor writes, and goes on after a while."""
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
    """New connections are answered 5xx or 429 for a while, and somebody needs one."""
    session = await world.session(rng)
    if session is None:
        return False
    uuid, report = session
    status = rng.choice(_REFUSALS)
    calls = frozenset(world.callers)  # those that begin, or lose their session meanwhile
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
    """SIGKILL: its callers come back, at this or another one; another is started.

    Not while a worker is stopped: with both gone, words of a caller that are no text yet are lost (README).
    """
    async with _whole_redis(world, pace):
        await _none_stopped(world, pace)
        dispatcher = _dispatcher(world, rng)
        if dispatcher is None:
            return False
        await _kill_dispatcher(world, dispatcher, FaultKind.KILL_DISPATCHER)
        # What was said in the calls of a stopped worker is known to Redis alone, until they are found there.
        await _none_stopped(world, pace)
        await world.add_dispatcher()
        return True


async def _kill_dispatcher(world: World, dispatcher: Member, kind: FaultKind) -> None:
    world.hit(Fault(kind, time.monotonic(), world.calls_at(dispatcher), detail=dispatcher.id))
    await world.kill(dispatcher)


async def drain_dispatcher(world: World, pace: Pace, rng: random.Random) -> bool:
    """SIGTERM behind the start of another: its calls end in their own time."""
    async with _whole_redis(world, pace):
        new = await world.add_dispatcher()
    dispatcher = _dispatcher(world, rng, but=new)
    if dispatcher is None:
        return True  # all others have gone meanwhile: there is nobody to replace
    calls = world.calls_at(dispatcher)
    world.hit(Fault(FaultKind.DRAIN_DISPATCHER, time.monotonic(), calls, detail=dispatcher.id))
    await world.tell_to_stop(dispatcher, drain_seconds=DISPATCHER_DRAIN_SECONDS)
    return True


async def cut_caller(world: World, pace: Pace, rng: random.Random) -> bool:
    """A caller's connection breaks, and comes back."""
    async with _whole_redis(world, pace):
        caller = _talker(world, rng)
        if caller is None or caller.call is None:
            return False
        world.hit(Fault(FaultKind.CUT_CALLER, time.monotonic(), frozenset({caller.uuid})))
        await caller.call.cut()
        await asyncio.sleep(_BACK_SECONDS)
    return True


async def deaf_core(world: World, pace: Pace, rng: random.Random) -> bool:
    """A core stops reading for a while."""
    caller = _talker(world, rng)
    if caller is None:
        return False
    fault = Fault(FaultKind.DEAF_CORE, time.monotonic(), frozenset({caller.uuid}), lasts=True)
    world.hit(fault)
    caller.go_deaf()
    try:
        await asyncio.sleep(pace.deaf_seconds)
    finally:
        caller.hear_again()
        fault.until_seconds = time.monotonic()
    return True


async def flooding_core(world: World, _: Pace, rng: random.Random) -> bool:
    """A core sends audio as fast as it can."""
    caller = _talker(world, rng)
    if caller is None:
        return False
    world.hit(Fault(FaultKind.FLOODING_CORE, time.monotonic(), frozenset({caller.uuid})))
    await caller.flood()
    return True


def _talker(world: World, rng: random.Random) -> Caller | None:
    talkers = [
        caller
        for caller in world.callers.values()
        if caller.facts.part is Part.TALKER and caller.call is not None and caller.call.is_connected
    ]
    return rng.choice(talkers) if talkers else None


# Redis: one fault at a time, the next waits for it


async def kill_redis(world: World, _: Pace, rng: random.Random) -> bool:
    """SIGKILL; it comes back empty."""
    async with _redis(world, FaultKind.KILL_REDIS):
        await asyncio.to_thread(world.redis.kill)
        await asyncio.sleep(rng.uniform(0.2, 3.0))
        await asyncio.to_thread(world.redis.start)
    return True


async def pause_redis(world: World, pace: Pace, _: random.Random) -> bool:
    """It accepts connections and answers nothing for a while."""
    async with _redis(world, FaultKind.PAUSE_REDIS), _frozen(world):
        await asyncio.sleep(pace.redis_seconds)
    return True


async def flush_redis(world: World, _: Pace, __: random.Random) -> bool:
    """FLUSHALL."""
    async with _redis(world, FaultKind.FLUSH_REDIS):
        await asyncio.to_thread(world.flush_redis)
    return True


async def kill_worker_without_redis(world: World, pace: Pace, rng: random.Random) -> bool:
    """Redis is paused, then a worker is killed; it comes back, and another worker is started."""
    async with _redis(world, FaultKind.PAUSE_REDIS), _frozen(world):
        await asyncio.sleep(_REDIS_NOTICED_SECONDS)
        worker = await _worker(world, rng)
        if worker is not None:
            await _kill_worker(world, worker, FaultKind.KILL_WORKER_WITHOUT_REDIS)
        await asyncio.sleep(min(pace.redis_seconds, _REDIS_AWAY_SECONDS))
    if worker is not None:
        await world.add_worker()
    return worker is not None


async def kill_dispatcher_without_redis(world: World, pace: Pace, rng: random.Random) -> bool:
    """Redis is paused, then a dispatcher is killed: its callers come back to one that has to ask the workers.

    A worker that is stopped cannot answer: with all three gone nobody knows anything of its calls, and they begin
    anew (README). So this waits until there is none.
    """
    async with _redis(world, FaultKind.PAUSE_REDIS), _frozen(world):
        await asyncio.sleep(_REDIS_NOTICED_SECONDS)
        await _none_stopped(world, pace)
        dispatcher = None if _woke_without_redis(world) else _dispatcher(world, rng)
        if dispatcher is not None:
            await _kill_dispatcher(world, dispatcher, FaultKind.KILL_DISPATCHER_WITHOUT_REDIS)
        await asyncio.sleep(min(pace.redis_seconds, _REDIS_AWAY_SECONDS))
    if dispatcher is not None:
        await world.add_dispatcher()
    return dispatcher is not None


@asynccontextmanager
async def _turn_at_redis(world: World) -> AsyncIterator[None]:
    async with world.redis_lock:
        if world.is_over:
            raise Over
        yield


@asynccontextmanager
async def _redis(world: World, kind: FaultKind) -> AsyncIterator[None]:
    async with _turn_at_redis(world):
        fault = Fault(kind, time.monotonic(), lasts=True)
        world.redis_left_seconds = fault.at_seconds
        world.redis_whole_seconds.append((world.redis_back_seconds, fault.at_seconds))
        world.hit(fault)
        try:
            yield
        finally:
            fault.until_seconds = world.redis_back_seconds = time.monotonic()
            world.redis_left_seconds = None


@asynccontextmanager
async def _whole_redis(world: World, pace: Pace) -> AsyncIterator[None]:
    """Redis is there, and knows of everything: who comes back to another dispatcher is found by it alone."""
    async with _turn_at_redis(world):
        await asyncio.sleep(max(0.0, world.redis_back_seconds + pace.whole_seconds - time.monotonic()))
        yield


@asynccontextmanager
async def _frozen(world: World) -> AsyncIterator[None]:
    world.redis.freeze()
    try:
        yield
    finally:
        world.redis.thaw()


# Victims: others of their kind must be well, and one that has calls is better than one that has none


async def _worker(world: World, rng: random.Random, *, but: Member | None = None) -> Member | None:
    well = [worker for worker in _well(world.workers) if _is_known(world, worker)]
    if len(well) < _AT_LEAST:
        return None
    others = [worker for worker in well if worker is not but]
    busy = [worker for worker in others if await world.calls_on(worker)]
    chosen = rng.choice(busy or others)
    return chosen if chosen.is_well else None


def _is_known(world: World, worker: Member) -> bool:
    """Whether dispatchers have heard of it: Redis was there for long enough since it started."""
    now_seconds = time.monotonic()
    times = list(world.redis_whole_seconds)
    if world.redis_left_seconds is None:
        times.append((world.redis_back_seconds, now_seconds))
    return any(left - max(back, worker.ready_seconds) >= _KNOWN_SECONDS for back, left in times)


def _dispatcher(world: World, rng: random.Random, *, but: Member | None = None) -> Member | None:
    well = _well(world.dispatchers)
    if len(well) < _AT_LEAST:
        return None
    others = [dispatcher for dispatcher in well if dispatcher is not but]
    return rng.choice([each for each in others if world.calls_at(each)] or others)


def _well(members: Sequence[Member]) -> list[Member]:
    return [member for member in members if member.is_well]


ACTS: dict[FaultKind, Act] = {
    FaultKind.KILL_WORKER: kill_worker,
    FaultKind.STOP_WORKER: stop_worker,
    FaultKind.DRAIN_WORKER: drain_worker,
    FaultKind.CUT_LINK: cut_link,
    FaultKind.BREAK_LINK: break_link,
    FaultKind.DROP_SESSION: drop_session,
    FaultKind.STALL_SESSION: stall_session,
    FaultKind.EXPIRE_SESSION: expire_session,
    FaultKind.REFUSE_SESSIONS: refuse_sessions,
    FaultKind.KILL_DISPATCHER: kill_dispatcher,
    FaultKind.DRAIN_DISPATCHER: drain_dispatcher,
    FaultKind.CUT_CALLER: cut_caller,
    FaultKind.KILL_REDIS: kill_redis,
    FaultKind.PAUSE_REDIS: pause_redis,
    FaultKind.FLUSH_REDIS: flush_redis,
    FaultKind.KILL_WORKER_WITHOUT_REDIS: kill_worker_without_redis,
    FaultKind.KILL_DISPATCHER_WITHOUT_REDIS: kill_dispatcher_without_redis,
    FaultKind.FAIL_ANSWER: api_faults.fail_answer,
    FaultKind.CUT_ANSWER: api_faults.cut_answer,
    FaultKind.LIMIT_ANSWER: api_faults.limit_answer,
    FaultKind.EMPTY_ANSWER: api_faults.empty_answer,
    FaultKind.ERROR_IN_ANSWER: api_faults.error_in_answer,
    FaultKind.LOSE_DONE: api_faults.lose_done,
    FaultKind.REFUSE_ANSWER: api_faults.refuse_answer,
    FaultKind.LATE_ANSWER: api_faults.late_answer,
    FaultKind.LONE_SURROGATE: api_faults.lone_surrogate,
    FaultKind.ENDLESS_SPEECH: api_faults.endless_speech,
    FaultKind.OUTAGE: api_faults.outage,
    FaultKind.DEAF_CORE: deaf_core,
    FaultKind.FLOODING_CORE: flooding_core,
}

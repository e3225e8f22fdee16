"""Victims of faults, chosen so that the service can continue; and turns at Redis, one fault at a time."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tests.chaos.callers import Caller
from tests.chaos.facts import Fault, FaultKind, Part
from tests.chaos.pace import Pace
from tests.chaos.world import Member, World
from tests.helpers import eventually

# Time after its start in which all dispatchers learn of a worker.
_KNOWN_SECONDS = 2.0
# The victim and another worker.
_AT_LEAST = 2


class RunEnded(Exception):
    """The end of the run, at which faults that wait for Redis are dropped."""


# Victims: others of their kind must run, and one with calls is preferred


async def any_worker(world: World, rng: random.Random, *, but: Member | None = None) -> Member | None:
    known = [worker for worker in well(world.workers) if _is_known(world, worker)]
    if len(known) < _AT_LEAST:
        return None
    others = [worker for worker in known if worker is not but]
    busy = [worker for worker in others if await world.calls_on(worker)]
    chosen = rng.choice(busy or others)
    return chosen if chosen.is_well else None


def _is_known(world: World, worker: Member) -> bool:
    """Tell whether dispatchers know the worker: Redis ran long enough since its start."""
    now_seconds = time.monotonic()
    times = list(world.redis_whole_seconds)
    if world.redis_left_seconds is None:
        times.append((world.redis_back_seconds, now_seconds))
    return any(left - max(back, worker.ready_seconds) >= _KNOWN_SECONDS for back, left in times)


def any_dispatcher(world: World, rng: random.Random, *, but: Member | None = None) -> Member | None:
    able = well(world.dispatchers)
    if len(able) < _AT_LEAST:
        return None
    others = [dispatcher for dispatcher in able if dispatcher is not but]
    return rng.choice([each for each in others if world.calls_at(each)] or others)


def well(members: Sequence[Member]) -> list[Member]:
    return [member for member in members if member.is_well]


async def any_pair(world: World, rng: random.Random) -> tuple[Member, Member, frozenset[str]] | None:
    """Return a dispatcher, a worker, and the calls on the link between them; prefer a pair with calls."""
    pairs = [
        (dispatcher, worker, calls & world.calls_at(dispatcher))
        for worker in well(world.workers)
        for calls in [await world.calls_on(worker)]
        for dispatcher in well(world.dispatchers)
    ]
    return rng.choice([pair for pair in pairs if pair[2]] or pairs) if pairs else None


def any_talker(world: World, rng: random.Random) -> Caller | None:
    talkers = [
        caller
        for caller in world.callers.values()
        if caller.facts.part is Part.TALKER and caller.call is not None and caller.call.is_connected
    ]
    return rng.choice(talkers) if talkers else None


# Redis: one fault at a time; the next waits for it


@asynccontextmanager
async def turn_at_redis(world: World) -> AsyncIterator[None]:
    async with world.redis_lock:
        if world.is_over:
            raise RunEnded
        yield


@asynccontextmanager
async def redis_fault(world: World, kind: FaultKind) -> AsyncIterator[None]:
    async with turn_at_redis(world):
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
async def whole_redis(world: World, pace: Pace) -> AsyncIterator[None]:
    """Wait until Redis runs and knows everything: a returning caller is found by Redis alone."""
    async with turn_at_redis(world):
        await asyncio.sleep(max(0.0, world.redis_back_seconds + pace.whole_seconds - time.monotonic()))
        yield


@asynccontextmanager
async def frozen_redis(world: World) -> AsyncIterator[None]:
    world.redis.freeze()
    try:
        yield
    finally:
        world.redis.thaw()


def woke_without_redis(world: World) -> bool:
    """Tell whether a worker was stopped while Redis was away: then only the dispatchers of its calls know it."""
    left_seconds = world.redis_left_seconds
    return left_seconds is not None and any(each.until_seconds >= left_seconds for each in world.run_log.frozen)


async def none_stopped(world: World, pace: Pace) -> None:
    await eventually(lambda: not any(worker.stopped for worker in world.workers), 2 * pace.stop_seconds)

"""Faults beside the calls, which no caller may notice: faults of the machine, and of other cores."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.chaos import hostile, pipes
from tests.chaos.facts import Breach, Fault, FaultKind
from tests.chaos.pace import Pace
from tests.chaos.victims import well
from tests.chaos.world import Member, World
from tests.helpers import eventually

_BETWEEN_ATTACKS_SECONDS = 0.2
_STUFFING_SECONDS = 5.0
_STRANGER_SECONDS = 1.0


async def fill_disk(world: World, pace: Pace, _: random.Random) -> bool:
    """Fill the temporary folder of all processes for a while, and start another worker meanwhile."""
    if not world.disk.is_small:
        return False
    async with _beside(world, FaultKind.FULL_DISK):
        await asyncio.to_thread(world.disk.fill)
        try:
            began_seconds = time.monotonic()
            try:
                await world.add_worker()
            except AssertionError as error:
                what = f"a worker could not start on a full disk: {str(error)[-500:]}"
                world.run_log.breaches.append(Breach("process", what, began_seconds))
            await asyncio.sleep(max(0.0, began_seconds + pace.disk_seconds - time.monotonic()))
        finally:
            await asyncio.to_thread(world.disk.free)
    await world.replace_dead()
    return True


async def stall_stderr(world: World, pace: Pace, rng: random.Random) -> bool:
    """Stop reading stderr for a while: of one process, or of all."""
    able = [*well(world.workers), *well(world.dispatchers)]
    if not able:
        return False
    is_of_all = rng.random() < 0.5
    members = able if is_of_all else [rng.choice(able)]
    detail = "of all processes" if is_of_all else f"of {members[0].process.name} {members[0].id}"
    async with _beside(world, FaultKind.STALL_STDERR, detail):
        for member in members:
            member.process.pause_reading()
        try:
            until_seconds = time.monotonic() + pace.stderr_seconds
            await asyncio.gather(*(_stuff(member) for member in members))
            await _have_lines_logged(world, rng)
            await asyncio.sleep(max(0.0, until_seconds - time.monotonic()))
        finally:
            for member in members:
                member.process.resume_reading()
    return True


async def _have_lines_logged(world: World, rng: random.Random) -> None:
    """Connect to each dispatcher so often that each process has log lines."""
    async with asyncio.TaskGroup() as group:
        for url in list(world.urls):
            for _ in world.workers:
                attack = hostile.stranger(rng)
                world.strangers.add(attack.uuid)
                group.create_task(hostile.carry_out(url, attack, _STRANGER_SECONDS))


async def _stuff(member: Member) -> None:
    """Fill a process's stderr. The event loop here takes some of it before it stops reading."""

    async def is_full() -> bool:
        try:
            return await asyncio.to_thread(pipes.stuff, member.process.pid) == 0
        except OSError:
            return True  # the process was killed meanwhile

    await eventually(is_full, _STUFFING_SECONDS)


async def hostile_inits(world: World, pace: Pace, rng: random.Random) -> bool:
    """Connect as other cores, and send harmful data."""
    up = sorted(world.up())
    if not up or not world.urls:
        return False
    every = hostile.attacks(rng, rng.choice(up))
    world.strangers |= {attack.uuid for attack in every}
    async with _beside(world, FaultKind.HOSTILE_INIT), asyncio.TaskGroup() as group:
        for attack in every:
            group.create_task(hostile.carry_out(rng.choice(world.urls), attack, pace.hostile_seconds))
            await asyncio.sleep(_BETWEEN_ATTACKS_SECONDS)
    return True


@asynccontextmanager
async def _beside(world: World, kind: FaultKind, detail: str = "") -> AsyncIterator[None]:
    """Note the fault in each call that is up at any time of it."""
    fault = Fault(kind, time.monotonic(), frozenset(world.up()), lasts=True, detail=detail)
    world.hit(fault)
    try:
        yield
    finally:
        fault.until_seconds = time.monotonic()
        world.hits_newcomers(fault)

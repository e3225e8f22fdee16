"""Faults that hit several processes, or a process at a bad moment."""

from __future__ import annotations

import asyncio
import random
import signal
import time

from tests.chaos import sockets
from tests.chaos.facts import Fault, FaultKind
from tests.chaos.pace import Pace
from tests.chaos.victims import any_dispatcher, any_worker, none_stopped, well, whole_redis
from tests.chaos.world import Member, World

# Number of failed liveness probes after which an orchestrator replaces a process.
_FAILED_PROBES = 3
# Number of calls at a worker whose sessions must be replaced at once, if that happens soon enough.
_COINCIDING_ROLLOVERS = 2
_LOOK_SECONDS = 0.05


async def kill_both(world: World, pace: Pace, rng: random.Random) -> bool:
    """Kill a worker and a dispatcher that share calls, at the same instant, and start others.

    Redis runs, and no other worker is stopped. With all three away, calls start again (guarantees.md).
    """
    async with whole_redis(world, pace):
        await none_stopped(world, pace)
        worker = await any_worker(world, rng)
        if worker is None or any_dispatcher(world, rng) is None:
            return False
        on_worker = await world.calls_on(worker)
        able = [each for each in well(world.dispatchers) if on_worker & world.calls_at(each)]
        if not able:
            return False
        dispatcher = rng.choice(able)
        detail = f"{worker.id} and {dispatcher.id}"
        frozen, on_worker = await world.hold(worker)
        frozen.until_seconds = now_seconds = time.monotonic()
        at_dispatcher = world.calls_at(dispatcher)
        world.hit(Fault(FaultKind.KILL_BOTH, now_seconds, on_worker & at_dispatcher, detail=detail))
        # Calls that lost one of the two processes.
        if calls := on_worker - at_dispatcher:
            world.hit(Fault(FaultKind.KILL_WORKER, now_seconds, calls, detail=worker.id))
        if calls := at_dispatcher - on_worker:
            world.hit(Fault(FaultKind.KILL_DISPATCHER, now_seconds, calls, detail=dispatcher.id))
        for member in (worker, dispatcher):
            member.process.signal(signal.SIGKILL)
        await asyncio.gather(world.kill(worker), world.kill(dispatcher))
        await asyncio.gather(world.add_worker(), world.add_dispatcher())
        return True


async def hang_dispatcher(world: World, pace: Pace, rng: random.Random) -> bool:
    """Stop a dispatcher for longer than any bound, or until failed liveness probes replace it."""
    async with whole_redis(world, pace):
        await none_stopped(world, pace)
        dispatcher = any_dispatcher(world, rng)
        if dispatcher is None:
            return False
        is_replaced = rng.random() < 0.5
        dispatcher.stopped = True
        detail = f"{dispatcher.id} {'is replaced' if is_replaced else 'wakes'}"
        calls = world.calls_at(dispatcher)
        fault = Fault(FaultKind.HANG_DISPATCHER, time.monotonic(), calls, lasts=True, detail=detail)
        fault.was_killed = is_replaced
        world.hit(fault)
        dispatcher.process.signal(signal.SIGSTOP)
        try:
            if is_replaced:
                await _until_found_dead(world, dispatcher, pace.probe_seconds)
                fault.until_seconds = time.monotonic()
                await world.kill(dispatcher)
                await world.add_dispatcher()
            else:
                await asyncio.sleep(pace.hang_seconds)
        finally:
            if not is_replaced:
                fault.until_seconds = time.monotonic()
                dispatcher.process.signal(signal.SIGCONT)
                dispatcher.stopped = False
        return True


async def _until_found_dead(world: World, member: Member, interval_seconds: float) -> None:
    """Probe a process as an orchestrator does, and return after the limit of failed probes in a row."""
    failed = 0
    while failed < _FAILED_PROBES:
        alive = await world.is_alive(member, interval_seconds)
        failed = 0 if alive else failed + 1


async def drain_in_rollover(world: World, _: Pace, rng: random.Random) -> bool:
    """Send SIGTERM to a worker while it replaces sessions of calls, after another worker has started."""
    new = await world.add_worker()
    deadline_seconds = time.monotonic() + world.rollover_seconds
    while True:
        found = await _rollovers(world, but=new)
        most = max((len(calls) for _, calls in found), default=0)
        is_late = time.monotonic() >= deadline_seconds
        if most >= _COINCIDING_ROLLOVERS or (is_late and most):
            break
        if is_late and time.monotonic() >= deadline_seconds + world.rollover_seconds:
            return False
        await asyncio.sleep(_LOOK_SECONDS)
    worker, rolling = rng.choice([each for each in found if len(each[1]) == most])
    calls = await world.calls_on(worker)
    detail = f"{worker.id}, {len(rolling)} sessions being replaced"
    world.hit(Fault(FaultKind.DRAIN_IN_ROLLOVER, time.monotonic(), calls, detail=detail))
    await world.tell_to_stop(worker, drain_seconds=worker.drain_seconds)
    return True


async def _rollovers(world: World, *, but: Member) -> list[tuple[Member, frozenset[str]]]:
    """Return workers, and calls with two sessions there: one that may answer, and one on standby."""
    live = await world.live()
    found = []
    for worker in well(world.workers):
        if worker is but or len(well(world.workers)) < 2:
            continue
        peers = await asyncio.to_thread(sockets.peers_of, worker.process.pid, world.realtime.port)
        here = [(uuid, session["may_answer"]) for uuid, session in live if session["peer"] in peers]
        calls = {uuid for uuid, answers in here if answers} & {uuid for uuid, answers in here if not answers}
        if calls:
            found.append((worker, frozenset(calls)))
    return found

"""Many short calls through one dispatcher and one worker, and what these hold before and after."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import redis

from common.store.keys import KEY_PREFIX
from simulator.avr.core import CallError, place_call
from tests.chaos.realtime import RealtimeProcess
from tests.helpers import eventually
from tests.scenarios.processes import KEY, PATIENCE_SECONDS, ServiceProcess

WARM_CALLS = 200
MAX_GROWTH_BYTES = 10 * 1024 * 1024
# At once: together they wait for greetings, not for each other.
_AT_ONCE = 40
# What is left of a call is gone when a caller that was lost can no longer come back.
_RECONNECT_SECONDS = 1


class ObservedProcess(ServiceProcess):
    """One that can be asked what it holds."""

    module = "tests.leaks.observed"

    async def census(self) -> Census:
        """What it holds now."""
        count = len(self.events("census"))
        self.signal(signal.SIGRTMIN)
        await eventually(lambda: len(self.events("census")) > count, PATIENCE_SECONDS)
        return Census.of(self.events("census")[-1])


@dataclass(frozen=True, slots=True)
class Census:
    """What a process holds, see `tests.leaks.observed`."""

    tasks: int
    files: int
    threads: int
    resident_bytes: int

    @classmethod
    def of(cls, line: dict[str, Any]) -> Self:
        """From the line that it wrote."""
        return cls(line["tasks"], line["files"], line["threads"], line["resident_bytes"])


@dataclass(frozen=True, slots=True)
class Count:
    """After so many calls: what the worker and the dispatcher hold, and the keys in Redis that are of calls."""

    calls: int
    worker: Census
    dispatcher: Census
    keys: tuple[str, ...]


def leaks(warm: Count, after: Count) -> list[str]:
    """What `after` holds that `warm` did not, one line each."""
    found = []
    for name, was, now in (
        ("worker", warm.worker, after.worker),
        ("dispatcher", warm.dispatcher, after.dispatcher),
    ):
        grown = now.resident_bytes - was.resident_bytes
        if grown > MAX_GROWTH_BYTES:
            found.append(f"the {name} has grown by {grown / 1e6:.1f} MB in {after.calls - warm.calls} calls")
        for what, held, holds in (
            ("tasks", was.tasks, now.tasks),
            ("files", was.files, now.files),
            ("threads", was.threads, now.threads),
        ):
            if holds > held:
                found += [f"the {name} has {holds} {what}, and had {held}"]
    if after.keys:
        found.append(f"in Redis are {len(after.keys)} keys, such as {after.keys[0]}")
    return found


async def measure(redis_url: str, calls: int, say: Callable[[str], None]) -> list[Count]:
    """Place calls, and count what is held after the first `WARM_CALLS` and after the last."""
    realtime = await RealtimeProcess.start()
    processes: list[ObservedProcess] = []
    settings: dict[str, object] = {
        "REDIS_URL": redis_url,
        "OPENAI_API_KEY": KEY,
        "OPENAI_BASE_URL": realtime.url,
        "OPENAI_INSTRUCTIONS": 'simulator: {"greeting_words": 2, "first_audio_seconds": 0.1}',
        "WORKER_ADDRESS": "127.0.0.1",
        "WORKER_PORT": 0,
        "PORT": 0,
        "ADMIN_PORT": 0,
        "CALL_RECONNECT_SECONDS": _RECONNECT_SECONDS,
    }
    try:
        for role in ("worker", "dispatcher"):
            processes.append(await ObservedProcess.start(role, **settings))
            await processes[-1].line(f"{role} listening")
        worker, dispatcher = processes
        await dispatcher.line("link up")
        port = (await dispatcher.line("dispatcher listening"))["port"]
        counts = []
        placed = 0
        for total in (WARM_CALLS, calls):
            await _place(f"ws://127.0.0.1:{port}", total - placed, random.Random(total))
            placed = total
            counts.append(await _count(placed, worker, dispatcher, realtime, redis_url))
            say(f"after {placed} calls: {counts[-1]}")
        for process in reversed(processes):
            assert await process.stop() == 0
        return counts
    finally:
        await asyncio.gather(*(process.kill() for process in processes))
        await realtime.stop()


async def _place(url: str, calls: int, rng: random.Random) -> None:
    numbers = iter(range(calls))

    async def one_after_the_other() -> None:
        for _ in numbers:
            await _call(url, rng)

    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(one_after_the_other())


async def _call(url: str, rng: random.Random) -> None:
    """One short call, ended in one of the ways in which calls end."""
    ending = rng.choice(("heard", "heard", "heard", "at once", "lost", "bad"))
    call = await place_call(url, record_limit_bytes=0, connect_timeout_seconds=PATIENCE_SECONDS)
    try:
        if ending in ("heard", "lost"):
            await call.wait_for(lambda c: c.record.frames_received, timeout_seconds=PATIENCE_SECONDS)
        if ending == "bad":
            await call.send_raw("x" * 70_000)
            await call.wait_for(lambda c: c.closed.is_set(), timeout_seconds=PATIENCE_SECONDS)
        if ending == "lost":
            await call.drop()
    except CallError as error:
        raise AssertionError(f"a call that was to be {ending}: {error}") from error
    finally:
        await call.hang_up()


async def _count(
    calls: int, worker: ObservedProcess, dispatcher: ObservedProcess, realtime: RealtimeProcess, redis_url: str
) -> Count:
    async def no_sessions() -> bool:
        return not await realtime.live()

    def no_keys() -> bool:
        return not _keys_of_calls(redis_url)

    await eventually(no_sessions, PATIENCE_SECONDS)
    await eventually(no_keys, PATIENCE_SECONDS)
    return Count(calls, await worker.census(), await dispatcher.census(), _keys_of_calls(redis_url))


def _keys_of_calls(redis_url: str) -> tuple[str, ...]:
    """Of the service's keys those that are not of the workers themselves."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        return tuple(sorted(key for key in client.scan_iter(f"{KEY_PREFIX}*") if "call" in key))

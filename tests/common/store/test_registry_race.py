"""Four processes of two dispatchers, started at the same moment, want the same workers."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

import orjson

from common.store.leases import WorkerRecord, WorkerState
from common.store.registry import Registry

LEASE_SECONDS = 60


async def publish(registry: Registry, capacities: Mapping[str, int]) -> None:
    for name, capacity in capacities.items():
        record = WorkerRecord(name, f"{name}:7000", name, 42, "1.0.0", capacity, WorkerState.READY, name)
        await registry.publish_worker(record, lease_seconds=LEASE_SECONDS)


async def loads(registry: Registry) -> dict[str, int]:
    return {status.id: status.calls for status in await registry.workers()}


async def race(url: str, *racers: tuple[str, str, int]) -> list[dict[str, Any]]:
    """Run a process per (dispatcher, uuid prefix, number of calls) and return what each of them got."""
    command = (sys.executable, "-m", "tests.common.store.pin_racer", url)
    pipe = asyncio.subprocess.PIPE
    processes = [
        await asyncio.create_subprocess_exec(*command, dispatcher, prefix, str(count), stdin=pipe, stdout=pipe)
        for dispatcher, prefix, count in racers
    ]
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    outputs = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    return [orjson.loads(output) for output, _ in outputs]


async def test_2000_calls_are_each_pinned_once_and_spread_evenly(registry: Registry, redis_url: str) -> None:
    await publish(registry, dict.fromkeys(["w0", "w1", "w2", "w3"], 600))
    outcomes: dict[str, Any] = {}
    for outcome in await race(redis_url, *((f"d{n % 2}", f"p{n}-", 500) for n in range(4))):
        outcomes |= outcome
    assert len(outcomes) == 2000
    assert {(epoch, pins) for _, epoch, pins in outcomes.values()} == {(1, 1)}
    assert Counter(name for name, _, _ in outcomes.values()) == dict.fromkeys(["w0", "w1", "w2", "w3"], 500)
    assert {record.uuid: record.worker for record in await registry.calls()} == {
        uuid: name for uuid, (name, _, _) in outcomes.items()
    }


async def test_the_last_slots_are_given_once(registry: Registry, redis_url: str) -> None:
    capacities = {"w0": 5, "w1": 40, "w2": 75, "w3": 80}
    await publish(registry, capacities)
    racers = [(f"d{n % 2}", f"p{n}-", 100) for n in range(4)]
    outcomes = [each for outcome in await race(redis_url, *racers) for each in outcome.values()]
    assert outcomes.count("full") == 200
    assert Counter(each[0] for each in outcomes if each != "full") == capacities
    assert await loads(registry) == capacities


async def test_calls_that_everybody_wants_have_one_slot_each(registry: Registry, redis_url: str) -> None:
    await publish(registry, dict.fromkeys(["w0", "w1", "w2", "w3"], 1000))
    outcomes = await race(redis_url, *((f"d{n % 2}", "same-", 50) for n in range(4)))
    for uuid in outcomes[0]:
        assert sorted(outcome[uuid][1] for outcome in outcomes) == [1, 2, 3, 4]
    assert sum((await loads(registry)).values()) == 50
    assert {record.epoch for record in await registry.calls()} == {4}

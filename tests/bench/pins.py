"""How many pins a second a real Redis makes, asked as dispatchers ask.

`python -m tests.bench.pins URL NUMBER SECONDS` is one such dispatcher: it writes its pins a second to stdout.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import time
from dataclasses import dataclass

import uvloop
from redis.asyncio import Redis

from common.store.leases import WorkerRecord, WorkerState
from common.store.pins import Pin
from common.store.registry import Registry
from tests.bench.service import BenchError, Peer, redis

WORKERS = 8
CAPACITY = 200
LEASE_SECONDS = 15.0
# Of each dispatcher.
CALLS = 200
# As many commands as a registry has in flight at once.
TOGETHER = 8


@dataclass(frozen=True, slots=True)
class Pins:
    """What came of it.

    Attributes:
        per_second: that the dispatchers made.
        redis_us: CPU time of Redis for one.
    """

    per_second: float
    redis_us: float


async def measure(seconds: float) -> Pins:
    """Let as many dispatchers as there are cores pin calls to 8 workers."""
    async with redis() as server:
        registry = Registry.from_url(server.url)
        for number in range(WORKERS):
            record = WorkerRecord(
                f"worker-{number}", f"127.0.0.1:{number}", "host", 1, "1.0.0", CAPACITY, WorkerState.READY, "x"
            )
            await registry.publish_worker(record, lease_seconds=60 + 2 * seconds)
        await registry.aclose()
        client = Redis.from_url(server.url)
        before = await client.info("cpu")
        arguments = [(server.url, str(number), str(seconds)) for number in range(os.cpu_count() or 1)]
        peers = [await Peer.start("tests.bench.pins", *each) for each in arguments]
        try:
            rates = [await peer.report() for peer in peers]
        finally:
            for peer in peers:
                await peer.kill()
        after = await client.info("cpu")
        await client.aclose()
    used = sum(after[name] - before[name] for name in ("used_cpu_user_main_thread", "used_cpu_sys_main_thread"))
    pins = sum(rate["pins"] for rate in rates)
    return Pins(sum(rate["pins"] / rate["seconds"] for rate in rates), used / pins * 1e6)


async def _dispatch(url: str, number: int, seconds: float) -> None:
    registry = Registry.from_url(url)
    # Pinned again and again, so that Redis holds calls as it does in service, and each pin moves one.
    uuids = itertools.cycle([f"call-{number}-{call}" for call in range(CALLS)])
    ends = time.monotonic() + seconds

    async def pin() -> int:
        pins = 0
        while time.monotonic() < ends:
            pinned = await registry.pin(
                next(uuids),
                dispatcher=f"dispatcher-{number}",
                epoch=1,
                metadata={"from": "100"},
                lease_seconds=LEASE_SECONDS,
            )
            if not isinstance(pinned, Pin):
                raise BenchError(f"a pin failed: {pinned}")
            pins += 1
        return pins

    began = time.monotonic()
    pins = sum(await asyncio.gather(*(pin() for _ in range(TOGETHER))))
    sys.stdout.write(f'{{"pins":{pins},"seconds":{time.monotonic() - began}}}')
    await registry.aclose()


def main() -> None:
    """Be one dispatcher."""
    url, number, seconds = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_dispatch(url, int(number), float(seconds)))


if __name__ == "__main__":
    main()

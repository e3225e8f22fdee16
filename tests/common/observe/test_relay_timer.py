from __future__ import annotations

import asyncio
import time

from prometheus_client import CollectorRegistry, Histogram

from common.observe.relay_timer import TIMED_EVERY_FRAMES, RelayTimer


class Rig:
    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        histogram = Histogram("relay_seconds", "x", registry=self._registry, buckets=(0.001, 1000.0))
        self.timer = RelayTimer(histogram)

    def read(self, name: str) -> float | None:
        return self._registry.get_sample_value(f"relay_seconds_{name}")


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_one_frame_in_fifty_is_timed() -> None:
    rig = Rig()
    for _ in range(3 * TIMED_EVERY_FRAMES - 1):
        rig.timer.frame(time.monotonic())
    await turns(4)
    assert rig.read("count") == 2
    rig.timer.frame(time.monotonic())
    await turns(4)
    assert rig.read("count") == 3


async def test_the_time_runs_from_the_read_to_the_resulting_write() -> None:
    rig = Rig()
    counts: list[float | None] = []
    loop = asyncio.get_running_loop()

    def flush_of_the_link() -> None:
        loop.call_soon(flush_of_the_socket)

    def flush_of_the_socket() -> None:
        counts.append(rig.read("count"))

    for _ in range(TIMED_EVERY_FRAMES):
        rig.timer.frame(time.monotonic() - 2.0)
    # As relaying it does: in the same turn of the event loop, behind the timer.
    loop.call_soon(flush_of_the_link)
    await turns(4)
    assert counts == [0]
    assert rig.read("count") == 1
    total = rig.read("sum")
    assert total is not None
    assert total >= 2.0

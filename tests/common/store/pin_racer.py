"""A process that pins calls as fast as it can.

    python -m tests.common.store.pin_racer URL DISPATCHER PREFIX COUNT

Says `ready`, starts at the first line on stdin, and prints one JSON object: uuid to `[worker, epoch, pins]`, or to
the reason of a refusal.
"""

from __future__ import annotations

import asyncio
import json
import sys

from common.store.pins import NoCapacity, Pin
from common.store.registry import Registry

_AT_ONCE = 20


async def race(url: str, dispatcher: str, prefix: str, count: int) -> dict[str, object]:
    registry = Registry.from_url(url, timeout_seconds=60)
    await registry.ping()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    numbers = iter(range(count))
    outcomes: dict[str, object] = {}

    async def pin() -> None:
        for number in numbers:
            uuid = f"{prefix}{number}"
            pin = await registry.pin(uuid, dispatcher=dispatcher, epoch=1, metadata={}, lease_seconds=60)
            if isinstance(pin, Pin):
                outcomes[uuid] = [pin.worker, pin.epoch, pin.pins]
            else:
                outcomes[uuid] = pin.reason if isinstance(pin, NoCapacity) else "superseded"

    await asyncio.gather(*(pin() for _ in range(_AT_ONCE)))
    await registry.aclose()
    return outcomes


if __name__ == "__main__":
    url, dispatcher, prefix, count = sys.argv[1:]
    sys.stdout.write(json.dumps(asyncio.run(race(url, dispatcher, prefix, int(count)))))

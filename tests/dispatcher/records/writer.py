"""A process that writes records and waits: `python -m tests.dispatcher.records.writer REDIS_URL WEBHOOK NUMBER`.

It prints `stored` when Redis has all of them.
"""

from __future__ import annotations

import asyncio
import sys

from dispatcher.records.webhook_sink import WebhookSink
from tests.dispatcher.records.receiver import SECRET
from tests.dispatcher.records.running import running
from tests.dispatcher.records.samples import call_record

LEASE_SECONDS = 1.0


async def main() -> None:
    """Write the records, and wait to be killed."""
    redis_url, url, number = sys.argv[1:]
    sink = WebhookSink(url, lambda: SECRET)
    left = int(number)
    async with running(redis_url, [sink], "writer", lease_seconds=LEASE_SECONDS, timeout_seconds=5) as records:
        stored = asyncio.Semaphore(0)
        for each in range(left):
            records.ended(call_record(each), stored.release)
        for _ in range(left):
            await stored.acquire()
        sys.stdout.write("stored\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())

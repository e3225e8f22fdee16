"""`make bench BENCH=records`: the cost of a call's record in a dispatcher, with records off and with all sinks on.

Records end at a steady rate in one process. With records on, they go to a folder, to a webhook in another process,
and to a real Redis; in one row they have texts with a telephone number each.

`python -m tests.bench.records` is the receiver of the webhook: it prints its port.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from common.observe import metrics
from common.store.bounded_redis import BoundedRedis
from dispatcher.records.call_record import CallRecord, Said
from dispatcher.records.directory_sink import DirectorySink
from dispatcher.records.outbox import Outbox
from dispatcher.records.record_file import RecordFile
from dispatcher.records.record_taker import NO_RECORDS, RecordTaker
from dispatcher.records.records import Records
from dispatcher.records.redaction import Redactor
from dispatcher.records.redaction_hook import RedactionThread
from dispatcher.records.sink import Sink
from dispatcher.records.webhook_sink import WebhookSink
from tests.bench.results import Latency
from tests.bench.service import redis

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
RECORDS = 500
PER_SECOND = 50.0
"""Ended calls in a second: more than two cores hold, with calls of a minute."""
TEXTS = 40
LAG_SECONDS = 0.001
LAST_SECONDS = 30.0
MAX_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of records.

    Attributes:
        ended_us: time of `ended` itself.
        cpu_ms: CPU time of the process for one record, with all that follows.
        lag: delay of the event loop.
    """

    ended_us: Latency
    cpu_ms: float
    lag: Latency


@dataclass(frozen=True, slots=True)
class Costs:
    """The costs of one run."""

    rows: dict[str, Cost]

    def table(self) -> str:
        """Return a table for people."""
        lines = [f"{'records':<28}{'ended p50/p99 us':>20}{'CPU ms each':>14}{'event loop late p50/p99 ms':>30}"]
        for name, cost in self.rows.items():
            lines.append(
                f"{name:<28}{f'{1000 * cost.ended_us.p50_ms:.1f} / {1000 * cost.ended_us.p99_ms:.1f}':>20}"
                f"{cost.cpu_ms:>14.2f}{f'{cost.lag.p50_ms:.2f} / {cost.lag.p99_ms:.2f}':>30}"
            )
        return "\n".join(lines)


async def measure(records: int = RECORDS, per_second: float = PER_SECOND) -> Costs:
    """Measure records that are off, on without text, and on with text."""
    async with redis() as server:
        receiver = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.bench.records"), stdout=asyncio.subprocess.PIPE
        )
        assert receiver.stdout is not None
        try:
            url = f"http://127.0.0.1:{int(await receiver.stdout.readline())}/"
            with tempfile.TemporaryDirectory() as folder:
                rows = {"off": await _cost(NO_RECORDS, _records(records, 0), per_second)}
                for name, texts in (("all sinks", 0), (f"all sinks, {TEXTS} texts", TEXTS)):
                    taker = _taker(server.url, url, Path(folder))
                    rows[name] = await _cost(taker, _records(records, texts), per_second)
        finally:
            receiver.kill()
            await receiver.communicate()
    return Costs(rows)


def _taker(redis_url: str, url: str, folder: Path) -> Records:
    outbox = Outbox(
        BoundedRedis.from_url(redis_url, timeout_seconds=5), "bench", max_bytes=MAX_BYTES, keep_seconds=3600
    )
    sinks: list[Sink] = [DirectorySink(RecordFile(folder, "bench")), WebhookSink(url, lambda: SECRET)]
    return Records(outbox, sinks, RedactionThread(Redactor()), metrics.dispatcher(), max_bytes=MAX_BYTES)


async def _cost(taker: RecordTaker, records: Sequence[CallRecord], per_second: float) -> Cost:
    took: list[float] = []
    late: list[float] = []
    stored = asyncio.Semaphore(0)
    await taker.start()
    watching = asyncio.create_task(_watch(late))
    cpu_seconds, began = time.process_time(), time.monotonic()
    for number, record in enumerate(records):
        await asyncio.sleep(max(0.0, began + number / per_second - time.monotonic()))
        before = time.perf_counter()
        taker.ended(record, stored.release)
        took.append(time.perf_counter() - before)
    async with asyncio.timeout(LAST_SECONDS):
        for _ in records:
            await stored.acquire()
    await taker.stop(asyncio.Event())
    cpu_seconds = time.process_time() - cpu_seconds
    watching.cancel()
    ended_us, lag = Latency.of(took), Latency.of(late)
    assert ended_us is not None
    assert lag is not None
    return Cost(ended_us, 1000 * cpu_seconds / len(records), lag)


async def _watch(late: list[float]) -> None:
    while True:
        due = time.perf_counter() + LAG_SECONDS
        await asyncio.sleep(LAG_SECONDS)
        late.append(max(0.0, time.perf_counter() - due))


def _records(number: int, texts: int) -> list[CallRecord]:
    words = "I would like to know when you open, and please call me back at +39 02 1234 5678."
    said = tuple(Said("user" if each % 2 else "agent", words, 3.0 * each) for each in range(texts))
    now = time.time()
    return [
        CallRecord(
            id=f"bench-{texts}-{each}-{now:.0f}",
            uuid=f"uuid-{texts}-{each}",
            tenant=None,
            metadata={"from": f"+3902{each:07}", "to": "+390298765432"},
            started_at=now - 60,
            ended_at=now,
            ending="completed",
            reason="caller_hung_up",
            reason_text="the caller hung up",
            hung_up_by="caller",
            said=said or None,
        )
        for each in range(number)
    ]


async def _receive() -> None:
    async def take(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=204)

    app = web.Application(client_max_size=1 << 22)
    app.add_routes([web.post("/", take)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    sock = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, sock).start()
    sys.stdout.write(f"{sock.getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_receive())

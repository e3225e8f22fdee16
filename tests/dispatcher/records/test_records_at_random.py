"""Records under random single faults: each id is delivered, and always with the same bytes."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

import pytest
import redis
from aiohttp import web

from common.observe import metrics
from common.store.bounded_redis import BoundedRedis
from dispatcher.records.outbox import PREFIX, Outbox
from dispatcher.records.records import Records
from dispatcher.records.redaction import Redactor
from dispatcher.records.redaction_hook import RedactionThread
from dispatcher.records.webhook_sink import WebhookSink
from tests.conftest import start_real_redis
from tests.dispatcher.records.receiver import SECRET, Receiver
from tests.dispatcher.records.samples import call_record
from tests.helpers import eventually
from tests.redis_process import RealRedis

LEASE_SECONDS = 0.5
LOOK_SECONDS = 0.05
STEPS = 40


class Fleet:
    """Processes with one Redis, of which one part at a time fails."""

    def __init__(self, server: RealRedis, receiver: Receiver, choose: random.Random) -> None:
        self.server = server
        self.receiver = receiver
        self.choose = choose
        self.running: list[Records] = []
        self.ended = 0
        self.stored: set[int] = set()
        self._number = 0

    async def start(self) -> None:
        self._number += 1
        outbox = Outbox(
            BoundedRedis.from_url(self.server.url, timeout_seconds=0.5),
            f"p-{self._number}",
            max_bytes=1 << 24,
            keep_seconds=0,
            lease_seconds=LEASE_SECONDS,
        )
        sink = WebhookSink(self.receiver.url, lambda: SECRET)
        records = Records(
            outbox,
            [sink],
            RedactionThread(Redactor()),
            metrics.dispatcher(),
            max_bytes=1 << 24,
            look_seconds=LOOK_SECONDS,
        )
        await records.start()
        self.running.append(records)

    def end(self) -> None:
        """Let a call end at some process."""
        number = self.ended
        self.ended += 1
        self.choose.choice(self.running).ended(call_record(number), lambda: self.stored.add(number))

    async def settle(self) -> None:
        """Wait until each undelivered record is in Redis and in a process: the next fault is a single one."""
        await eventually(lambda: len(self.stored) == self.ended)
        await eventually(self._is_safe)

    async def kill(self) -> None:
        """Stop a process as SIGKILL does: it writes nothing more."""
        records = self.running.pop(self.choose.randrange(len(self.running)))
        for task in records._tasks:
            task.cancel()
        await asyncio.gather(*records._tasks, return_exceptions=True)
        for delivery in records._deliveries.values():
            for flying in list(delivery._flying):
                with contextlib.suppress(asyncio.CancelledError):
                    await flying
            await delivery.sink.aclose()
        await records._outbox.aclose()
        await self.start()

    async def empty_redis(self) -> None:
        await asyncio.to_thread(self.server.kill)
        for _ in range(self.choose.randrange(3)):
            self.end()
        await asyncio.to_thread(self.server.start)

    async def close(self) -> None:
        at_once = asyncio.Event()
        at_once.set()
        for records in self.running:
            await records.stop(at_once)

    def _is_safe(self) -> bool:
        with redis.Redis.from_url(self.server.url, decode_responses=True) as client:
            pending = set(client.zrange(f"{PREFIX}pending", 0, -1))
        delivered = set(self.receiver.ids)
        held = {record.id for records in self.running for record in records._held}
        waiting = {f"record-{number:04}" for number in range(self.ended)} - delivered
        return waiting <= pending and waiting <= held and all(each._sync.is_done for each in self.running)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


@pytest.mark.parametrize("seed", range(4))
async def test_every_record_arrives_with_one_body(seed: int, receiver: Receiver) -> None:
    choose = random.Random(seed)
    server = await asyncio.to_thread(start_real_redis)
    fleet = Fleet(server, receiver, choose)
    try:
        await fleet.start()
        await fleet.start()
        for _ in range(STEPS):
            step = choose.choice(("end", "end", "end", "down", "up", "kill", "empty"))
            if step == "end":
                fleet.end()
            elif step in ("down", "up"):
                status = 503 if step == "down" else 204
                receiver.answer = lambda *_, status=status: web.Response(status=status)
            else:
                await fleet.settle()
                await (fleet.kill() if step == "kill" else fleet.empty_redis())
        receiver.answer = lambda *_: web.Response(status=204)
        wanted = {f"record-{number:04}" for number in range(fleet.ended)}
        await eventually(lambda: set(receiver.ids) == wanted, 60)
    finally:
        await fleet.close()
        await asyncio.to_thread(server.close)
    bodies = set(zip(receiver.ids, receiver.bodies, strict=True))
    assert len(bodies) == fleet.ended

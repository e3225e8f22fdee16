"""Records survive the death of their process, and of Redis: real processes, killed."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator

import pytest
import redis
from aiohttp import web

from dispatcher.records.outbox import PREFIX
from dispatcher.records.webhook_sink import WebhookSink
from tests.dispatcher.records.receiver import SECRET, Receiver
from tests.dispatcher.records.running import running
from tests.dispatcher.records.samples import call_record
from tests.dispatcher.records.writer import LEASE_SECONDS
from tests.helpers import eventually
from tests.redis_process import RedisProcess

NUMBER = 20


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


@contextlib.asynccontextmanager
async def writing(redis_url: str, url: str, number: int = NUMBER) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a process whose records are in Redis, and wait for the webhook."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.dispatcher.records.writer", redis_url, url, str(number)),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async for line in process.stdout:
            if line == b"stored\n":
                break
        else:
            raise AssertionError("the writer ended")
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        # The transport must close before its loop.
        await process.communicate()


def stored(redis_url: str) -> int:
    with redis.Redis.from_url(redis_url) as client:
        return int(client.zcard(f"{PREFIX}pending"))


async def test_another_process_delivers_after_the_writer_is_killed(redis_url: str, receiver: Receiver) -> None:
    receiver.answer = lambda *_: web.Response(status=503)
    async with writing(redis_url, receiver.url) as writer:
        writer.kill()
        await writer.wait()
        receiver.answer = lambda *_: web.Response(status=200)
        sink = WebhookSink(receiver.url, lambda: SECRET)
        async with running(redis_url, [sink], "other", lease_seconds=LEASE_SECONDS):
            await eventually(lambda: len(set(receiver.ids)) == NUMBER)
            await eventually(lambda: stored(redis_url) == 0)
    assert len(receiver.ids) == NUMBER


async def test_redis_that_comes_back_empty_gets_the_records_again(
    redis_process: RedisProcess, receiver: Receiver
) -> None:
    receiver.answer = lambda *_: web.Response(status=503)
    async with writing(redis_process.url, receiver.url) as writer:
        assert stored(redis_process.url) == NUMBER
        redis_process.kill()
        redis_process.start()
        await eventually(lambda: stored(redis_process.url) == NUMBER)
        # Now only Redis has them.
        writer.kill()
        await writer.wait()
        receiver.answer = lambda *_: web.Response(status=200)
        sink = WebhookSink(receiver.url, lambda: SECRET)
        async with running(redis_process.url, [sink], "other", lease_seconds=LEASE_SECONDS):
            await eventually(lambda: len(set(receiver.ids)) == NUMBER)


async def test_records_are_delivered_while_redis_is_away(redis_process: RedisProcess, receiver: Receiver) -> None:
    sink = WebhookSink(receiver.url, lambda: SECRET)
    async with running(redis_process.url, [sink], timeout_seconds=1) as records:
        records.ended(call_record(1))
        await eventually(lambda: receiver.ids == ["record-0001"])
        redis_process.kill()
        for number in range(2, 6):
            records.ended(call_record(number))
        await eventually(lambda: len(receiver.ids) == 5)
        redis_process.start()
        # The same id from another process, such as a `lost` record, comes too late.
        await eventually(lambda: records._sync.is_done)
        async with running(redis_process.url, [], "other") as other:
            answered: list[int] = []
            other.ended(call_record(5, ending="lost"), lambda: answered.append(1))
            await eventually(lambda: answered)
    assert sorted(receiver.ids) == [f"record-{number:04}" for number in range(1, 6)]


async def test_frozen_redis_delays_no_delivery_for_long(redis_process: RedisProcess, receiver: Receiver) -> None:
    sink = WebhookSink(receiver.url, lambda: SECRET)
    async with running(redis_process.url, [sink], timeout_seconds=0.3) as records:
        redis_process.freeze()
        records.ended(call_record(1))
        await eventually(lambda: receiver.ids == ["record-0001"])
        redis_process.thaw()
        await eventually(lambda: records._sync.is_done)

"""Records of one process from `ended` to its sinks: real Redis, real HTTP, real files."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
import redis
from aiohttp import web

from common.observe.record_outcome import RecordOutcome
from dispatcher.records import outbox_sync, selectors
from dispatcher.records.call_record import Said
from dispatcher.records.directory_sink import DirectorySink
from dispatcher.records.outbox import PREFIX
from dispatcher.records.preparation import MAX_RECORD_BYTES
from dispatcher.records.record_file import RecordFile
from dispatcher.records.record_taker import NO_RECORDS
from dispatcher.records.records import Records
from dispatcher.records.webhook_sink import WebhookSink
from tests.dispatcher.records.receiver import SECRET, Receiver
from tests.dispatcher.records.running import counted, running
from tests.dispatcher.records.samples import call_record
from tests.helpers import eventually


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


def webhook(receiver: Receiver) -> WebhookSink:
    return WebhookSink(receiver.url, lambda: SECRET)


def folder(path: Path) -> DirectorySink:
    return DirectorySink(RecordFile(path, "d"))


def lines(path: Path) -> list[bytes]:
    return (path / "calls-d.jsonl").read_bytes().splitlines() if (path / "calls-d.jsonl").exists() else []


def held(records: Records) -> int:
    return len(records._held)


async def test_without_settings_a_record_costs_nothing() -> None:
    stored: list[int] = []
    await NO_RECORDS.start()
    NO_RECORDS.ended(call_record())
    NO_RECORDS.ended(call_record(), lambda: stored.append(1))
    await NO_RECORDS.stop(asyncio.Event())
    assert stored == [1]
    assert NO_RECORDS.outbox is None


async def test_record_reaches_every_sink_with_the_same_bytes(
    redis_url: str, receiver: Receiver, tmp_path: Path
) -> None:
    before = counted(RecordOutcome.DELIVERED)
    async with running(redis_url, [folder(tmp_path), webhook(receiver)]) as records:
        stored: list[int] = []
        records.ended(call_record(), lambda: stored.append(1))
        await eventually(
            lambda: receiver.bodies and lines(tmp_path) and not held(records) and records._sync.is_done
        )
    assert receiver.ids == ["record-0001"]
    assert receiver.bodies == lines(tmp_path)
    assert receiver.records[0]["said"][0]["text"] == "my card is [card]"
    assert stored == [1]
    assert counted(RecordOutcome.DELIVERED) == before + 1
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        assert client.get(f"{PREFIX}bytes") == "0"


async def test_record_without_texts_is_the_record_itself(redis_url: str, receiver: Receiver) -> None:
    record = call_record(said=None)
    async with running(redis_url, [webhook(receiver)]) as records:
        records.ended(record)
        await eventually(lambda: receiver.bodies)
    assert receiver.bodies == [record.encoded()]


async def test_hook_that_fails_leaves_texts_out_and_is_counted(redis_url: str, receiver: Receiver) -> None:
    before = counted(RecordOutcome.REDACTION_FAILED)
    async with running(
        redis_url, [webhook(receiver)], hook=lambda text: text if "Thank" in text else 1 / 0
    ) as records:
        records.ended(call_record(said_left_out=2))
        await eventually(lambda: receiver.bodies)
    assert [said["text"] for said in receiver.records[0]["said"]] == ["Thank you"]
    assert receiver.records[0]["said_left_out"] == 3
    assert counted(RecordOutcome.REDACTION_FAILED) == before + 1


async def test_long_record_is_bounded(redis_url: str, receiver: Receiver) -> None:
    said = tuple(Said("user", "word " * 1000, float(number)) for number in range(200))
    async with running(redis_url, [webhook(receiver)], max_bytes=1 << 22) as records:
        records.ended(call_record(said=said))
        await eventually(lambda: receiver.bodies)
    (body,) = receiver.bodies
    assert len(body) <= MAX_RECORD_BYTES
    record = orjson.loads(body)
    assert len(record["said"]) + record["said_left_out"] == 200


async def test_receiver_that_comes_back_gets_everything(redis_url: str, receiver: Receiver) -> None:
    await receiver.close()
    async with running(redis_url, [webhook(receiver)]) as records:
        for number in range(5):
            records.ended(call_record(number))
        await eventually(lambda: held(records) == 5)
        await receiver.listen()
        await eventually(lambda: len(receiver.bodies) == 5)
    assert sorted(receiver.ids) == [f"record-{number:04}" for number in range(5)]


async def test_few_requests_are_under_way_at_once(redis_url: str, receiver: Receiver) -> None:
    async with running(redis_url, [webhook(receiver)]) as records:
        for number in range(30):
            records.ended(call_record(number))
        await eventually(lambda: len(receiver.bodies) == 30)
    assert receiver.most_at_once <= 4


async def test_refused_record_is_dead_and_can_be_retried(
    redis_url: str, receiver: Receiver, tmp_path: Path
) -> None:
    receiver.answer = lambda *_: web.Response(status=410)
    before = counted(RecordOutcome.DEAD)
    async with running(redis_url, [folder(tmp_path), webhook(receiver)]) as records:
        outbox = records.outbox
        assert outbox is not None
        records.ended(call_record())
        await eventually(lambda: counted(RecordOutcome.DEAD) == before + 1 and not held(records))
        (dead,) = [record async for _, record in outbox.newest(dead=True)]
        assert dead is not None
        assert (dead.reason, dead.waits) == ("webhook: HTTP 410", ("webhook",))
        assert len(lines(tmp_path)) == 1
        receiver.answer = lambda *_: web.Response(status=200)
        assert await outbox.retry() == 1
        await eventually(lambda: receiver.bodies)
    assert receiver.bodies == [dead.body]
    assert lines(tmp_path) == [dead.body]


async def test_record_is_dead_after_its_time(redis_url: str, receiver: Receiver) -> None:
    receiver.answer = lambda *_: web.Response(status=500)
    async with running(redis_url, [webhook(receiver)], give_up_seconds=0.0) as records:
        outbox = records.outbox
        assert outbox is not None
        records.ended(call_record())
        await eventually(lambda: records._sync.is_done and not held(records) and not records._raw)
        (dead,) = [record async for _, record in outbox.newest(dead=True)]
        assert dead is not None
        assert dead.reason == "webhook: HTTP 500"


async def test_records_are_only_kept_without_a_sink(redis_url: str) -> None:
    async with running(redis_url, [], keep_seconds=10**9) as records:
        outbox = records.outbox
        assert outbox is not None
        stored: list[int] = []
        records.ended(call_record(), lambda: stored.append(1))
        await eventually(lambda: stored)
        (kept,) = await outbox.of_call("uuid-0001")
        assert orjson.loads(kept.body)["id"] == "record-0001"
        assert not held(records)


async def test_first_record_of_an_id_wins_in_this_process(redis_url: str, receiver: Receiver) -> None:
    await receiver.close()
    async with running(redis_url, [webhook(receiver)]) as records:
        records.ended(call_record(said=None))
        records.ended(call_record(said=None, ending="lost"))
        await eventually(lambda: not records._raw and held(records) == 1)
        await receiver.listen()
        await eventually(lambda: receiver.bodies)
    assert [record["ending"] for record in receiver.records] == ["completed"]


async def test_every_record_is_delivered_or_counted_at_the_bound(redis_url: str, receiver: Receiver) -> None:
    await receiver.close()
    before = counted(RecordOutcome.DROPPED)
    size = len(call_record(said=None).encoded()) + 1024
    answered: list[int] = []
    async with running(redis_url, [webhook(receiver)], max_bytes=10 * size) as records:
        for number in range(30):
            records.ended(call_record(number, said=None), lambda: answered.append(1))
            await eventually(lambda: not records._raw and records._sync.is_done)
        dropped = counted(RecordOutcome.DROPPED) - before
        assert 10 <= dropped <= 20
        await receiver.listen()
        await eventually(lambda: len(set(receiver.ids)) == 30 - dropped)
    assert {f"record-{number:04}" for number in range(25, 30)} <= set(receiver.ids)
    assert len(answered) == 30


async def test_record_is_held_and_delivered_while_redis_has_no_room(
    real_redis_url: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_sync, "FULL_SECONDS", 0.05)
    await receiver.close()
    answered: list[int] = []
    with redis.Redis.from_url(real_redis_url) as client:
        client.config_set("maxmemory", client.info("memory")["used_memory"])
        try:
            async with running(real_redis_url, [webhook(receiver)]) as records:
                records.ended(call_record(1), lambda: answered.append(1))
                records.ended(call_record(2), lambda: answered.append(2))
                await eventually(lambda: answered == [1, 2])
                assert client.zcard(f"{PREFIX}pending") == 0
                # There is room again.
                client.config_set("maxmemory", 0)
                await eventually(lambda: client.zcard(f"{PREFIX}pending") == 2)
                await receiver.listen()
                await eventually(lambda: sorted(receiver.ids) == ["record-0001", "record-0002"])
        finally:
            client.config_set("maxmemory", 0)


async def test_records_that_wait_for_a_hanging_hook_are_bounded(redis_url: str, receiver: Receiver) -> None:
    release = threading.Event()
    before = counted(RecordOutcome.DROPPED)
    answered: list[int] = []

    def hang(text: str) -> str:
        release.wait()
        return text

    async with running(redis_url, [webhook(receiver)], max_bytes=20_000, hook=hang) as records:
        for number in range(40):
            records.ended(call_record(number), lambda: answered.append(1))
        dropped = counted(RecordOutcome.DROPPED) - before
        assert dropped > 20
        assert len(answered) == dropped
        release.set()
        await eventually(lambda: len(set(receiver.ids)) == 40 - dropped)


async def test_erased_record_is_not_delivered_any_more(redis_url: str, receiver: Receiver) -> None:
    await receiver.close()
    async with running(redis_url, [webhook(receiver)]) as records, running(redis_url, [], "p-2") as other:
        records.ended(call_record(1))
        records.ended(call_record(2))
        await eventually(lambda: held(records) == 2 and records._sync.is_done)
        assert other.outbox is not None
        assert await other.outbox.erase(selectors.of_uuid("uuid-0001")) == 1
        await eventually(lambda: held(records) == 1)
        await receiver.listen()
        await eventually(lambda: receiver.bodies)
    assert receiver.ids == ["record-0002"]


async def test_process_that_stops_leaves_its_records_to_others(redis_url: str, receiver: Receiver) -> None:
    await receiver.close()
    async with running(redis_url, [webhook(receiver)]) as records:
        records.ended(call_record())
        await eventually(lambda: held(records) == 1 and records._sync.is_done)
    await receiver.listen()
    async with running(redis_url, [webhook(receiver)], "p-2"):
        await eventually(lambda: receiver.bodies)
    assert receiver.ids == ["record-0001"]


async def test_stop_delivers_the_last_records(redis_url: str, receiver: Receiver, tmp_path: Path) -> None:
    async with running(redis_url, [folder(tmp_path), webhook(receiver)]) as records:
        for number in range(10):
            records.ended(call_record(number, said=None))
        await records.stop(asyncio.Event())
        records._tasks = []
    assert len(receiver.bodies) == len(lines(tmp_path)) == 10

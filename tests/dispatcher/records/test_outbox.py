"""The outbox on a real and on the embedded Redis."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import redis

from common.errors import RegistryUnavailable
from common.store.bounded_redis import BoundedRedis
from dispatcher.records import selectors
from dispatcher.records.outbox import GIVE_UP_SECONDS, PREFIX, STALLED_SECONDS, Added, Outbox, OutboxRecord, Reply
from tests.dispatcher.records.samples import outbox_record
from tests.redis_process import RedisProcess

MAX_BYTES = 1 << 20
MakeOutbox = Callable[..., Outbox]


@contextlib.asynccontextmanager
async def outboxes(url: str) -> AsyncIterator[MakeOutbox]:
    made: list[Outbox] = []

    def make(process: str = "p-1", *, max_bytes: int = MAX_BYTES, keep_seconds: int = 0) -> Outbox:
        connection = BoundedRedis.from_url(url, timeout_seconds=30)
        made.append(Outbox(connection, process, max_bytes=max_bytes, keep_seconds=keep_seconds))
        return made[-1]

    try:
        yield make
    finally:
        for each in made:
            await each.aclose()


@pytest.fixture
async def make(redis_url: str) -> AsyncIterator[MakeOutbox]:
    async with outboxes(redis_url) as making:
        yield making


@pytest.fixture
def client(redis_url: str) -> Any:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def expire_claims(client: Any) -> None:
    """Let all claims end, as if their processes had died some time ago."""
    for record_id in client.zrange(f"{PREFIX}claims", 0, -1):
        client.zadd(f"{PREFIX}claims", {record_id: 1})


async def listed(outbox: Outbox, **options: Any) -> list[OutboxRecord]:
    return [record async for _, record in outbox.newest(**options) if record is not None]


def keys(client: Any) -> set[str]:
    """Return the keys of records, apart from those that say that one is gone."""
    return {key for key in client.keys(f"{PREFIX}*") if not key.startswith(f"{PREFIX}gone:")}


async def test_delivered_record_leaves_nothing(make: MakeOutbox, client: Any) -> None:
    outbox = make()
    assert await outbox.add([outbox_record()]) == Added((Reply.OK,))
    assert (await outbox.renew(["record-0001"])).lost == {}
    await outbox.settle({"record-0001": ()})
    assert keys(client) <= {f"{PREFIX}bytes"}
    assert int(client.get(f"{PREFIX}bytes")) == 0


async def test_every_key_ends_by_itself(make: MakeOutbox, client: Any) -> None:
    outbox = make(keep_seconds=60)
    await outbox.add([outbox_record(1), outbox_record(2, reason="410")])
    await outbox.settle({"record-0003": ()})
    await outbox.erase(selectors.of_number("1"))
    assert {key: client.ttl(key) for key in client.keys("*") if client.ttl(key) < 0} == {}


class TestOneId:
    async def test_first_bytes_of_an_id_win(self, make: MakeOutbox) -> None:
        first, other = outbox_record(), outbox_record(body=b'{"ending":"lost"}')
        assert (await make().add([first])).replies == (Reply.OK,)
        assert (await make("p-2").add([other])).replies == (Reply.TAKEN,)
        assert (await make().of_call("uuid-0001"))[0].body == first.body

    async def test_first_bytes_win_after_their_delivery(self, make: MakeOutbox) -> None:
        await make().add([outbox_record()])
        await make().settle({"record-0001": ()})
        assert (await make("p-2").add([outbox_record(body=b"{}")])).replies == (Reply.DELIVERED,)

    async def test_first_bytes_win_if_they_were_delivered_without_redis(self, make: MakeOutbox) -> None:
        await make().settle({"record-0001": ()})
        assert (await make("p-2").add([outbox_record(body=b"{}")])).replies == (Reply.DELIVERED,)

    async def test_same_record_may_be_written_again(self, make: MakeOutbox, client: Any) -> None:
        outbox = make()
        for _ in range(3):
            assert (await outbox.add([outbox_record()])).replies == (Reply.OK,)
        assert client.zcard(f"{PREFIX}pending") == 1
        assert int(client.get(f"{PREFIX}bytes")) == sum(map(int, client.hgetall(f"{PREFIX}sizes").values()))


class TestClaims:
    async def test_record_of_a_dead_process_is_claimed_with_the_same_bytes(
        self, make: MakeOutbox, client: Any
    ) -> None:
        record = outbox_record(waits=("dir", "webhook"))
        await make().add([record])
        other = make("p-2")
        assert (await other.claim(["dir", "webhook"], max_bytes=MAX_BYTES)).records == ()
        expire_claims(client)
        (claimed,) = (await other.claim(["dir", "webhook"], max_bytes=MAX_BYTES)).records
        assert dataclasses.replace(claimed, age_seconds=0.0) == record
        assert (await make("p-3").claim(["dir", "webhook"], max_bytes=MAX_BYTES)).records == ()
        # The process was only stalled.
        assert (await make().renew([record.id])).lost == {record.id: Reply.TAKEN}

    async def test_sinks_that_have_the_record_do_not_get_it_again(self, make: MakeOutbox, client: Any) -> None:
        await make().add([outbox_record(waits=("dir", "webhook"))])
        await make().settle({"record-0001": ("webhook",)})
        expire_claims(client)
        (claimed,) = (await make("p-2").claim(["dir", "webhook"], max_bytes=MAX_BYTES)).records
        assert claimed.waits == ("webhook",)

    async def test_process_without_the_sink_leaves_the_record(self, make: MakeOutbox, client: Any) -> None:
        await make().add([outbox_record(waits=("webhook",))])
        expire_claims(client)
        assert (await make("p-2").claim(["dir"], max_bytes=MAX_BYTES)).records == ()
        assert len((await make("p-3").claim(["webhook"], max_bytes=MAX_BYTES)).records) == 1

    async def test_released_record_is_claimed_at_once(self, make: MakeOutbox) -> None:
        await make().add([outbox_record()])
        await make("p-2").release(["record-0001"])
        assert (await make("p-2").claim(["webhook"], max_bytes=MAX_BYTES)).records == ()
        await make().release(["record-0001"])
        assert len((await make("p-2").claim(["webhook"], max_bytes=MAX_BYTES)).records) == 1

    async def test_claims_of_one_look_are_bounded_in_bytes(self, make: MakeOutbox, client: Any) -> None:
        await make().add([outbox_record(number) for number in range(10)])
        expire_claims(client)
        size = len(outbox_record().body)
        assert len((await make("p-2").claim(["webhook"], max_bytes=3 * size + 1)).records) == 3

    async def test_record_that_nobody_delivered_is_dead_after_the_day(self, make: MakeOutbox, client: Any) -> None:
        await make().add([outbox_record(age_seconds=GIVE_UP_SECONDS + STALLED_SECONDS + 1)])
        expire_claims(client)
        claimed = await make("p-2").claim(["webhook"], max_bytes=MAX_BYTES)
        assert (claimed.records, claimed.dead) == ((), 1)
        assert [record.id for record in await listed(make(), dead=True)] == ["record-0001"]


class TestLoss:
    async def test_record_that_redis_lost_is_written_again(self, make: MakeOutbox, client: Any) -> None:
        outbox = make()
        await outbox.add([outbox_record()])
        client.flushdb()
        assert (await outbox.renew(["record-0001"])).lost == {"record-0001": Reply.UNKNOWN}
        assert (await outbox.add([outbox_record()])).replies == (Reply.OK,)

    async def test_record_that_another_process_delivered_is_named(self, make: MakeOutbox, client: Any) -> None:
        await make().add([outbox_record()])
        expire_claims(client)
        await make("p-2").claim(["webhook"], max_bytes=MAX_BYTES)
        await make("p-2").settle({"record-0001": ()})
        assert (await make().renew(["record-0001"])).lost == {"record-0001": Reply.DELIVERED}

    async def test_error_says_that_redis_is_away(self, redis_process: RedisProcess) -> None:
        async with outboxes(redis_process.url) as making:
            redis_process.kill()
            with pytest.raises(RegistryUnavailable):
                await making().add([outbox_record()])


class TestBound:
    SIZE = len(outbox_record().body) + 1024

    async def test_oldest_record_without_a_process_is_dropped_and_counted(
        self, make: MakeOutbox, client: Any
    ) -> None:
        outbox = make(max_bytes=3 * self.SIZE)
        await outbox.add([outbox_record(number) for number in (1, 2, 3)])
        expire_claims(client)
        added = await outbox.add([outbox_record(4)])
        assert (added.replies, added.dropped) == ((Reply.OK,), 1)
        assert client.zrange(f"{PREFIX}pending", 0, -1) == ["record-0002", "record-0003", "record-0004"]
        assert int(client.get(f"{PREFIX}bytes")) <= 3 * self.SIZE

    async def test_record_that_its_process_holds_is_not_counted(self, make: MakeOutbox) -> None:
        outbox = make(max_bytes=3 * self.SIZE)
        await outbox.add([outbox_record(number) for number in (1, 2, 3)])
        assert (await outbox.add([outbox_record(4)])).dropped == 0
        assert (await outbox.renew(["record-0001"])).lost == {"record-0001": Reply.UNKNOWN}

    async def test_older_record_drops_no_newer_one(self, make: MakeOutbox) -> None:
        outbox = make(max_bytes=3 * self.SIZE)
        await outbox.add([outbox_record(number) for number in (2, 3, 4)])
        assert (await outbox.add([outbox_record(1)])).replies == (Reply.FULL,)

    async def test_kept_records_go_first_then_dead_ones(self, make: MakeOutbox) -> None:
        await make(max_bytes=3 * self.SIZE, keep_seconds=10**9).add([outbox_record(3, waits=())])
        outbox = make(max_bytes=3 * self.SIZE)
        await outbox.add([outbox_record(2, reason="410"), outbox_record(1)])
        added = await outbox.add([outbox_record(4)])
        assert (added.replies, added.dropped, added.evicted) == ((Reply.OK,), 0, 1)
        added = await outbox.add([outbox_record(5)])
        assert (added.replies, added.dropped, added.evicted) == ((Reply.OK,), 1, 0)
        assert await listed(outbox, dead=True) == []

    async def test_record_over_the_bound_is_refused(self, make: MakeOutbox) -> None:
        assert (await make(max_bytes=100).add([outbox_record()])).replies == (Reply.FULL,)

    async def test_dead_records_are_bounded_in_number(self, make: MakeOutbox, client: Any) -> None:
        outbox = make(max_bytes=1 << 30)
        dropped = 0
        for start in range(0, 1050, 150):
            records = [outbox_record(number, reason="410") for number in range(start, start + 150)]
            dropped += (await outbox.add(records)).dropped
        assert (client.zcard(f"{PREFIX}dead"), dropped) == (1000, 50)
        assert client.zrange(f"{PREFIX}dead", 0, 0) == ["record-0050"]

    async def test_nothing_is_added_where_pins_need_the_memory(self, real_redis_url: str) -> None:
        with redis.Redis.from_url(real_redis_url) as client:
            used = int(client.info("memory")["used_memory"])
            async with outboxes(real_redis_url) as making:
                outbox = making()
                try:
                    client.config_set("maxmemory", int(used * 1.2))
                    assert (await outbox.add([outbox_record()])).replies == (Reply.FULL,)
                    client.config_set("maxmemory", 10 * used)
                    assert (await outbox.add([outbox_record()])).replies == (Reply.OK,)
                finally:
                    client.config_set("maxmemory", 0)


class TestKept:
    async def test_newest_come_first_page_by_page(self, make: MakeOutbox) -> None:
        outbox = make(keep_seconds=10**9)
        for start in range(0, 450, 150):
            await outbox.add([outbox_record(number, waits=()) for number in range(start, start + 150)])
        found = [place async for place, _ in outbox.newest(dead=False)]
        assert [record_id for _, record_id in found] == [f"record-{number:04}" for number in reversed(range(450))]
        rest = [place async for place, _ in outbox.newest(dead=False, before=found[99])]
        assert rest == found[100:]

    async def test_records_of_one_moment_are_each_shown_once(self, make: MakeOutbox) -> None:
        outbox = make(keep_seconds=10**9)
        await outbox.add([outbox_record(number, waits=(), ended_ms=1000) for number in range(150)])
        await outbox.add([outbox_record(number, waits=(), ended_ms=1000) for number in range(150, 300)])
        found = [place async for place, _ in outbox.newest(dead=False)]
        assert len(set(found)) == 300
        rest = [place async for place, _ in outbox.newest(dead=False, before=found[250])]
        assert rest == found[251:]

    async def test_kept_record_outlives_its_delivery(self, make: MakeOutbox) -> None:
        outbox = make(keep_seconds=10**9)
        await outbox.add([outbox_record()])
        await outbox.settle({"record-0001": ()})
        (kept,) = await listed(outbox, dead=False)
        assert (kept.waits, kept.body) == ((), outbox_record().body)

    async def test_record_ends_at_its_time(self, make: MakeOutbox, client: Any) -> None:
        outbox = make(keep_seconds=60)
        await outbox.add([outbox_record(waits=())])  # of a call that ended years ago
        assert len(await listed(outbox, dead=False)) == 1
        assert await outbox.sweep() == 1
        assert await listed(outbox, dead=False) == []
        assert int(client.get(f"{PREFIX}bytes")) == 0


class TestDead:
    async def test_dead_record_is_retried_by_any_process(self, make: MakeOutbox) -> None:
        await make().add([outbox_record(1), outbox_record(2)])
        await make().add([outbox_record(1, reason="HTTP 410"), outbox_record(2, reason="HTTP 500")])
        assert [record.reason for record in await listed(make(), dead=True)] == ["HTTP 500", "HTTP 410"]
        assert await make().retry("uuid-0001") == 1
        (claimed,) = (await make("p-2").claim(["webhook"], max_bytes=MAX_BYTES)).records
        assert claimed.id == "record-0001"
        assert claimed.age_seconds < 60
        assert await make().retry() == 1
        assert await listed(make(), dead=True) == []


class TestErasure:
    async def test_records_of_a_number_are_erased_wherever_they_are(self, make: MakeOutbox, client: Any) -> None:
        mine = {"selectors": ("uuid:a", selectors.of_number("+39 333"))}
        outbox = make(keep_seconds=10**9)
        await outbox.add([outbox_record(1, **mine), outbox_record(2, **mine, reason="410"), outbox_record(3)])
        await outbox.add([outbox_record(4, **mine, waits=())])
        assert await outbox.erase(selectors.of_number("0039333")) == 3
        assert {record.id for record in await listed(outbox, dead=False)} == {"record-0003"}
        assert await listed(outbox, dead=True) == []
        assert client.zrange(f"{PREFIX}pending", 0, -1) == ["record-0003"]
        assert await outbox.of_call("uuid-0001") == []

    async def test_process_that_holds_an_erased_record_is_told(self, make: MakeOutbox) -> None:
        selector = selectors.of_uuid("uuid-0001")
        await make().add([outbox_record()])
        await make("p-2").erase(selector)
        renewed = await make().renew(["record-0001"])
        assert renewed.lost == {"record-0001": Reply.ERASED}
        assert renewed.erasures[selector] > 1_700_000_000_000

    async def test_erased_record_is_not_written_again(self, make: MakeOutbox) -> None:
        """A process that held the record while Redis was away brings it later."""
        await make().erase(selectors.of_uuid("uuid-0001"))
        assert (await make("p-2").add([outbox_record()])).replies == (Reply.ERASED,)

    async def test_call_after_the_erasure_is_written(self, make: MakeOutbox) -> None:
        await make().erase(selectors.of_uuid("uuid-0001"))
        later = outbox_record(ended_ms=9_999_999_999_999)
        assert (await make().add([later])).replies == (Reply.OK,)


async def test_many_processes_deliver_each_record_to_one_owner(make: MakeOutbox, client: Any) -> None:
    await make().add([outbox_record(number) for number in range(50)])
    expire_claims(client)
    claims = await asyncio.gather(
        *(make(f"p-{number}").claim(["webhook"], max_bytes=MAX_BYTES) for number in range(2, 8))
    )
    found = [record.id for claimed in claims for record in claimed.records]
    assert sorted(found) == [f"record-{number:04}" for number in range(50)]

"""Records of a dispatcher's calls, and of calls whose dispatcher died, with a real Redis."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from common.errors import RegistryUnavailable
from common.link.wire import EndReason
from common.settings.tenants import NO_TENANTS, Tenants
from common.store.keys import KEY_PREFIX
from common.store.registry import RECORD_CLAIM, Registry
from dispatcher.call.actions import Measurement, Metric
from dispatcher.records.call_record import CallRecord
from dispatcher.records.facts import CallFacts
from dispatcher.records.record_writer import RecordedCall, RecordWriter
from dispatcher.runner.call_trace import CallTrace
from tests.common.store.test_registry import publish, worker
from tests.helpers import eventually
from tests.redis_process import RedisProcess
from tests.sentinel_process import PATIENCE_SECONDS, Watched, until
from tests.spans import KeptSpans

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
GRACE_SECONDS = 20.0


class Keeper:
    """Keeps the records that it gets, and says that they are stored when a test wants it."""

    def __init__(self) -> None:
        self.records: list[CallRecord] = []
        self.stored: list[Callable[[], None]] = []

    def ended(self, record: CallRecord, stored: Callable[[], None]) -> None:
        self.records.append(record)
        self.stored.append(stored)


class Writer:
    """The writer of one dispatcher, whose clock stands still until a test moves it."""

    def __init__(self, registry: Registry, *, with_text: bool = False, tenants: Tenants = NO_TENANTS) -> None:
        self.now = 1000.0
        self.keeper = Keeper()
        self.kept = KeptSpans()
        self.lost: list[CallRecord] = []
        self.writer = RecordWriter(
            registry,
            with_text=with_text,
            keeper=self.keeper,
            clock=lambda: self.now,
            grace_seconds=GRACE_SECONDS,
            tracer=self.kept,
            lost=self.lost.append,
            tenants=tenants,
        )

    def call(self, uuid: str, *, keys: int = 0, began_before_seconds: float = 5) -> RecordedCall:
        facts = self.writer.facts()
        for _ in range(keys):
            facts.measured(Measurement(Metric.DIGIT))
        return RecordedCall(uuid, {"from": "100", "secret": "x"}, time.monotonic() - began_before_seconds, facts)

    async def look(self, *, after_seconds: float = 0.0, held: tuple[str, ...] = ()) -> list[CallRecord]:
        """Look for lost calls, and return their records."""
        self.now += after_seconds
        before = len(self.keeper.records)
        await self.writer.look_for_lost_calls(held)
        return self.keeper.records[before:]


async def pin(registry: Registry, *uuids: str) -> None:
    """Have a worker hold the calls."""
    await publish(registry, worker("w-1", capacity=1000))
    for uuid in uuids or ("call-1",):
        await registry.pin(uuid, dispatcher="d", epoch=1, metadata={}, lease_seconds=60)


class TestEnds:
    async def test_the_log_has_a_record_of_each_call(self, registry: Registry) -> None:
        writer = RecordWriter(registry)
        call = RecordedCall("call-1", {"from": "+39061234"}, time.monotonic() - 5, writer.facts())
        with capture_logs() as lines:
            writer.ended(call, "completed", EndReason.CALLER_HUNG_UP, "closed")
        (line,) = lines
        assert (line["event"], line["uuid"], line["ending"]) == ("call record", "call-1", "completed")
        assert line["metadata"] == {"from": "…234"}
        assert 5 <= line["seconds"] < 30

    async def test_the_keeper_gets_it_once(self, registry: Registry) -> None:
        writer = Writer(registry)
        call = writer.call("call-1", keys=3)
        writer.writer.ended(call, "failed", EndReason.UPSTREAM, "no quota")
        (record,) = writer.keeper.records
        assert (record.id, record.keys, record.reason_text) == (call.facts.record_id, 3, "no quota")
        assert record.metadata == {"from": "100"}

    async def test_its_draft_goes_when_the_record_is_stored(self, registry: Registry) -> None:
        await pin(registry)
        writer = Writer(registry)
        call = writer.call("call-1")
        await writer.writer.keep_drafts([call])
        writer.writer.ended(call, "completed", EndReason.CALLER_HUNG_UP, "")
        await registry.unpin("call-1", epoch=1)
        await writer.writer.keep_drafts([])
        drafts = [await registry.draft("call-1")]
        assert await writer.look(after_seconds=GRACE_SECONDS) == []
        assert await writer.look(after_seconds=GRACE_SECONDS) == []
        writer.keeper.stored[0]()
        await writer.writer.keep_drafts([])
        drafts.append(await registry.draft("call-1"))
        assert [draft is None for draft in drafts] == [False, True]
        assert await registry.calls_without_holder() == {}


class TestDrafts:
    async def test_another_dispatcher_goes_on_with_the_record(self, registry: Registry) -> None:
        await pin(registry)
        first, second = Writer(registry), Writer(registry)
        call = first.call("call-1", keys=2)
        await first.writer.keep_drafts([call])
        later = second.call("call-1", keys=1)
        await second.writer.recall("call-1", later.facts)
        assert later.facts.record_id == call.facts.record_id
        assert later.facts.counts.keys == 3

    async def test_a_call_began_at_its_first_dispatcher(self, registry: Registry) -> None:
        await pin(registry)
        first, second = Writer(registry), Writer(registry)
        await first.writer.keep_drafts([first.call("call-1", began_before_seconds=300)])
        later = second.call("call-1", began_before_seconds=10)
        await second.writer.recall("call-1", later.facts)
        assert later.seconds(time.monotonic()) == pytest.approx(300, abs=5)
        second.writer.ended(later, "completed", EndReason.CALLER_HUNG_UP, "")
        (record,) = second.keeper.records
        assert record.ended_at - record.started_at == pytest.approx(300, abs=5)

    async def test_a_dispatchers_own_draft_is_not_added(self, registry: Registry) -> None:
        await pin(registry)
        writer = Writer(registry)
        call = writer.call("call-1", keys=2)
        await writer.writer.keep_drafts([call])
        await writer.writer.recall("call-1", call.facts)
        assert call.facts.counts.keys == 2

    async def test_a_draft_is_written_when_it_has_changed(self, registry: Registry) -> None:
        await pin(registry)
        writer = Writer(registry)
        call = writer.call("call-1")
        await writer.writer.keep_drafts([call])
        await registry.drop_drafts(["call-1"])
        await writer.writer.keep_drafts([call])
        unchanged = await registry.draft("call-1")
        call.facts.measured(Measurement(Metric.DIGIT))
        await writer.writer.keep_drafts([call])
        assert [draft is None for draft in (unchanged, await registry.draft("call-1"))] == [True, False]

    async def test_many_drafts_are_written(self, registry: Registry) -> None:
        writer = Writer(registry, with_text=True)
        calls = [writer.call(f"call-{number}") for number in range(50)]
        for call in calls:
            call.facts.heard("user", "x" * 50_000, 1.0)
        await pin(registry, *(call.uuid for call in calls))
        await writer.writer.keep_drafts(calls)
        drafts = [await registry.draft(call.uuid) for call in calls]
        assert all(draft is not None and len(draft) > 50_000 for draft in drafts)

    async def test_text_is_in_the_draft_only_where_it_is_wanted(self, registry: Registry) -> None:
        await pin(registry)
        for with_text in (False, True):
            writer = Writer(registry, with_text=with_text)
            call = writer.call("call-1")
            call.facts.heard("user", "my secret", 1.0)
            await writer.writer.keep_drafts([call])
            assert ("my secret" in str(await registry.draft("call-1"))) == with_text


class TestLostCalls:
    async def lose(self, registry: Registry, uuid: str = "call-1", tenant: str = "") -> RecordedCall:
        """Leave a call behind whose dispatcher has died."""
        writer = Writer(registry)
        call = writer.call(uuid, keys=2)
        call.facts.belongs_to(tenant)
        await pin(registry, uuid)
        await writer.writer.keep_drafts([call])
        await registry.unpin(uuid, epoch=1)
        return call

    async def test_another_dispatcher_writes_the_record(self, registry: Registry) -> None:
        call = await self.lose(registry)
        writer = Writer(registry)
        assert await writer.look() == []
        (record,) = await writer.look(after_seconds=GRACE_SECONDS)
        assert (record.id, record.ending, record.reason) == (call.facts.record_id, "lost", "lost")
        assert (record.keys, record.metadata, record.hung_up_by) == (2, {"from": "100"}, "unknown")
        assert 4 < record.seconds < 30
        assert writer.lost == [record], "it is counted"
        writer.keeper.stored[0]()
        await writer.writer.keep_drafts([])
        assert await registry.draft("call-1") is None
        assert await registry.claim(f"{RECORD_CLAIM}call-1", seconds=60), "nothing of it is left in Redis"

    @pytest.mark.parametrize(
        ("tenant", "tenants", "recorded"),
        [
            ("umbrella", Tenants("from", ["acme=100"]), "umbrella"),
            # The dispatcher that died was of an earlier release.
            ("", Tenants("from", ["acme=100"]), "acme"),
            ("", Tenants("from"), "other"),
            ("+4930123456", Tenants("from", ["acme=100"]), "other"),
            ("umbrella", NO_TENANTS, None),
        ],
    )
    async def test_the_record_of_a_lost_call_has_its_tenant(
        self, registry: Registry, tenant: str, tenants: Tenants, recorded: str | None
    ) -> None:
        await self.lose(registry, tenant=tenant)
        writer = Writer(registry, tenants=tenants)
        await writer.look()
        (record,) = await writer.look(after_seconds=GRACE_SECONDS)
        assert record.tenant == recorded

    async def test_span_of_the_lost_call_ends_its_trace(self, registry: Registry) -> None:
        first = Writer(registry)
        call = first.call("call-1")
        trace = CallTrace(first.kept, "call-1", TRACEPARENT)
        call.facts.trace_id, call.facts.traceparent = trace.context.trace_id, TRACEPARENT
        await pin(registry, "call-1", "call-2")
        await first.writer.keep_drafts([call, first.call("call-2")])
        for uuid in ("call-1", "call-2"):
            await registry.unpin(uuid, epoch=1)
        writer = Writer(registry)
        await writer.look()
        assert len(await writer.look(after_seconds=GRACE_SECONDS)) == 2
        (span,) = writer.kept.spans
        assert (span.context, span.parent) == (trace.context, trace.parent), (
            "the span that the dispatcher had begun"
        )
        assert (span.name, span.error) == ("call", "lost")
        assert 4e9 < span.ended_ns - span.began_ns < 30e9

    async def test_one_dispatcher_alone_writes_it(self, registry: Registry) -> None:
        await self.lose(registry)
        writers = [Writer(registry) for _ in range(3)]
        found = [await writer.look() for writer in writers]
        found += [await writer.look(after_seconds=GRACE_SECONDS) for writer in writers]
        assert sum(map(len, found)) == 1

    async def test_a_call_that_somebody_holds_is_not_lost(self, registry: Registry) -> None:
        await self.lose(registry)
        writer = Writer(registry)
        await pin(registry)
        for _ in range(3):
            assert await writer.look(after_seconds=GRACE_SECONDS) == []

    async def test_a_call_of_this_dispatcher_is_not_lost(self, registry: Registry) -> None:
        await self.lose(registry)
        writer = Writer(registry)
        for _ in range(3):
            assert await writer.look(after_seconds=GRACE_SECONDS, held=("call-1",)) == []

    async def test_a_call_that_comes_back_in_time_is_not_lost(self, registry: Registry) -> None:
        await self.lose(registry)
        writer = Writer(registry)
        await writer.look()
        await pin(registry)
        assert await writer.look(after_seconds=GRACE_SECONDS) == []
        await registry.unpin("call-1", epoch=1)
        # It begins to be missing again.
        assert await writer.look() == []

    @pytest.mark.parametrize("draft", ["", "{", "[]", "{}", '{"facts": 1, "metadata": {}, "started_at": 1}'])
    async def test_a_draft_that_cannot_be_read_is_dropped(self, draft: str, registry: Registry) -> None:
        await pin(registry)
        await registry.keep_drafts({"call-1": draft}, seconds=60)
        await registry.unpin("call-1", epoch=1)
        writer = Writer(registry)
        await writer.look()
        with capture_logs() as lines:
            assert await writer.look(after_seconds=GRACE_SECONDS) == []
        assert [line["event"] for line in lines] == ["draft of a call record cannot be read"]
        assert await registry.calls_without_holder() == {}


class TestFailover:
    async def test_draft_that_the_new_primary_lacks_is_kept_again(self, watched: Watched) -> None:
        registry = Registry.from_url(watched.url)
        writer = Writer(registry)
        call = writer.call("call-1")
        await pin(registry)
        former = watched.primary()
        (replica,) = [each for each in watched.servers if each is not former]
        until(lambda: replica.ask("EXISTS", f"{KEY_PREFIX}call:call-1"), "the replica has the call")
        watched.hold_back(replica)
        await writer.writer.keep_drafts([call])
        assert await registry.draft("call-1")
        former.kill()
        replica.thaw()
        watched.wait_for_failover(former)
        await eventually(registry.ping, PATIENCE_SECONDS)
        assert await registry.draft("call-1") is None
        await writer.writer.keep_drafts([call])
        assert await registry.draft("call-1") == call.draft()
        await registry.aclose()


class TestWithoutRedis:
    async def test_a_record_is_written_all_the_same(self, redis_process: RedisProcess) -> None:
        registry = Registry.from_url(redis_process.url, timeout_seconds=30)
        writer = Writer(registry)
        call = writer.call("call-1")
        await pin(registry)
        await writer.writer.keep_drafts([call])
        redis_process.kill()
        call.facts.measured(Measurement(Metric.DIGIT))
        with pytest.raises(RegistryUnavailable):
            await writer.writer.keep_drafts([call])
        later = CallFacts("other")
        await writer.writer.recall("call-1", later)
        writer.writer.ended(call, "completed", EndReason.CALLER_HUNG_UP, "")
        assert [record.keys for record in writer.keeper.records] == [1]
        writer.keeper.stored[0]()
        with pytest.raises(RegistryUnavailable):
            await writer.writer.keep_drafts([])
        # The draft is dropped when Redis is back.
        redis_process.start()
        await pin(registry)
        await registry.keep_drafts({"call-1": call.draft()}, seconds=60)
        await writer.writer.keep_drafts([])
        assert await registry.draft("call-1") is None
        await registry.aclose()

"""The cost of coordination: a real Redis, the real registry and placement, and simulated holders of calls.

The holders step through seconds of service as fast as they can. CPU time of Redis for each such second, and CPU
time of the holders' longest synchronous sections, do not depend on how many of them the machine can run at once.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
import time
from collections import deque
from dataclasses import dataclass, field

from aiohttp.test_utils import TestClient, TestServer
from redis.asyncio import Redis

from common.link import wire
from common.settings.tenants import NO_TENANTS
from common.store.leases import CallLease, WorkerRecord, WorkerState
from common.store.registry import Registry
from dispatcher.api.admin import application
from dispatcher.api.commands import CallCommands, CommandError
from dispatcher.avr.caller_connection import CallerConnection
from dispatcher.call.assignment import Assignment
from dispatcher.call.memory import CallMemory
from dispatcher.records.record_taker import NO_RECORDS
from dispatcher.workers.placement import Placement
from tests.bench import sections
from tests.bench.results import Latency
from tests.bench.service import BenchError, redis

METADATA = {"from": "+390212345678", "to": "800123456"}
LEASE_SECONDS = 600.0
# Seconds between two finished items of a conversation, and the length of an item and of a draft of a record.
ITEM_SECONDS = 5
ITEM_CHARS = 200
DRAFT_CHARS = 1500
DRAFTS_AT_ONCE = 100
# Pins whose own time is measured, one after another.
TIMED_PINS = 500
# A busy machine must not make Redis seem to be away, where that is not measured.
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Size:
    """A cluster.

    Attributes:
        dispatchers: holders of calls.
        workers: how many it has.
        calls: calls at once.
        call_seconds: mean length of a call.
        seconds: of service that are measured.
        together: calls that come to one dispatcher at once.
    """

    dispatchers: int = 20
    workers: int = 100
    calls: int = 10_000
    call_seconds: float = 60.0
    seconds: int = 3
    together: int = 1000

    @property
    def capacity(self) -> int:
        """Calls that a worker may have: the cluster is two thirds full before many calls come at once."""
        return max(1, round((1.5 * self.calls + TIMED_PINS + self.together) / self.workers))


# The largest table that one Redis is measured with; fewer calls, because the table is measured here.
MANY_WORKERS = Size(dispatchers=4, workers=1000, calls=2000, seconds=1)


@dataclass(frozen=True, slots=True)
class Burst:
    """Calls that come to one dispatcher at once, with the time limits of service.

    Attributes:
        returned: calls that Redis placed, of callers who came back.
        new: calls that Redis placed, of new callers.
        away: how often Redis was taken for away.
        p99_ms: wait for a pin.
    """

    returned: int = 0
    new: int = 0
    away: int = 0
    p99_ms: float = 0.0


@dataclass(slots=True)
class Figures:
    """Results.

    Attributes:
        redis_share: CPU time of Redis per second of service, as a share of a core.
        words_share: the same for memories of calls and drafts of their records.
        pin_redis_us: CPU time of Redis for a pin.
        pin_p50_ms: a pin's own time, one pin at a time.
        pin_p99_ms: the same.
        burst: calls that come together.
        sections: longest synchronous sections in ms, by what ran.
    """

    size: Size
    redis_share: float = 0.0
    words_share: float = 0.0
    pin_redis_us: float = 0.0
    pin_p50_ms: float = 0.0
    pin_p99_ms: float = 0.0
    burst: Burst = field(default_factory=Burst)
    sections: dict[str, float] = field(default_factory=dict)

    def table(self) -> str:
        """Return the figures for people."""
        size = self.size
        longest = ", ".join(f"{name} {ms:.1f}" for name, ms in sorted(self.sections.items()))
        return "\n".join(
            [
                f"coordination: {size.calls} calls of {size.call_seconds:g} s on {size.dispatchers} dispatchers"
                f" x {size.workers} workers, real Redis",
                f"  Redis                    {self.redis_share:.1%} of a core,"
                f" and {self.words_share:.1%} for what is said",
                f"  a pin                    {self.pin_redis_us:.0f} us of Redis;"
                f" own time p50 {self.pin_p50_ms:.2f} ms, p99 {self.pin_p99_ms:.2f} ms",
                f"  {size.together} callers at once      {self.burst.returned} who returned and"
                f" {self.burst.new} new ones pinned; {self.burst.away} times Redis was taken for away;"
                f" wait p99 {self.burst.p99_ms:.0f} ms",
                f"  longest sections, CPU ms {longest}",
            ]
        )


class _Dispatcher:
    """The dispatcher of the calls API."""

    is_ready = True
    problems: tuple[str, ...] = ()
    tenants = NO_TENANTS
    record_taker = NO_RECORDS
    recordings = None

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def page_call(self, connection: CallerConnection) -> None:
        """Take no call of a page."""

    async def holder(self, uuid: str) -> CallCommands:
        raise CommandError(404, uuid)


class Holder:
    """One dispatcher, as Redis sees it."""

    def __init__(self, name: str, url: str, timeout_seconds: float) -> None:
        self.registry = Registry.from_url(url, timeout_seconds=timeout_seconds)
        self.calls: dict[str, CallLease] = {}
        self.away = 0
        self.placement = Placement(
            self.registry, name, own_calls=self._own, has_link=lambda _: True, redis_up=self._redis_up
        )
        self._by_worker: dict[str, int] = {}

    def _own(self, worker: str) -> int:
        return self._by_worker.get(worker, 0)

    def _redis_up(self, up: float) -> None:
        self.away += not up

    async def place(self, uuid: str) -> bool:
        """Pin a call; return whether Redis did."""
        known = self.calls.get(uuid)
        epoch = 1 if known is None else known.epoch + 1
        found = await self.placement.place(uuid, epoch, METADATA, frozenset(), 0)
        if not isinstance(found, Assignment):
            raise BenchError(f"a pin failed: {found}")
        self.calls[uuid] = CallLease(
            uuid, found.worker_id, found.epoch, "live", found.started_at_ms, found.pins, METADATA
        )
        self._by_worker[found.worker_id] = self._own(found.worker_id) + 1
        return found.started_at_ms is not None

    async def begin(self, uuid: str) -> None:
        """Begin a call, and publish that it is live."""
        await self.place(uuid)
        await self.placement.renew(list(self.calls.values()))

    async def end(self, uuid: str) -> None:
        """End a call."""
        lease = self.calls.pop(uuid)
        self._by_worker[lease.worker] -= 1
        await self.placement.unpin(uuid, lease.epoch)

    async def beat(self) -> None:
        """Do what a dispatcher does once a second."""
        await self.placement.renew(list(self.calls.values()))


class Cluster:
    """Holders, workers and the Redis of a measurement."""

    def __init__(self, size: Size, url: str) -> None:
        self.size = size
        self._url = url
        self._client = Redis.from_url(url)
        self.holders = [
            Holder(f"dispatcher-{number}", url, PATIENCE_SECONDS) for number in range(size.dispatchers)
        ]
        # The dispatcher to which many callers return at once has the time limit of service.
        self.returned_to = Holder("returned-to", url, 0.5)
        self.workers = [
            (
                Registry.from_url(url, timeout_seconds=PATIENCE_SECONDS),
                WorkerRecord(
                    f"worker-{number:04}", f"10.0.0.1:{number}", "host", 1, "1.0.0", size.capacity,
                    WorkerState.READY, "boot",
                ),
            )
            for number in range(size.workers)
        ]  # fmt: skip
        self._numbers = itertools.count()
        self._live: deque[tuple[Holder, str]] = deque()

    async def aclose(self) -> None:
        for registry in [
            *(holder.registry for holder in [*self.holders, self.returned_to]),
            *(each for each, _ in self.workers),
        ]:
            await registry.aclose()
        await self._client.aclose()

    async def redis_seconds(self) -> float:
        """Return the CPU time that Redis has used."""
        info = await self._client.info("cpu")
        return float(info["used_cpu_user_main_thread"] + info["used_cpu_sys_main_thread"])

    async def publish_workers(self) -> None:
        for registry, record in self.workers:
            await registry.publish_worker(record, lease_seconds=LEASE_SECONDS)

    async def fill(self) -> None:
        """Begin all calls."""
        await self.publish_workers()

        async def some(holder: Holder) -> None:
            for _ in range(self.size.calls // self.size.dispatchers):
                uuid = f"call-{next(self._numbers)}"
                await holder.place(uuid)
                self._live.append((holder, uuid))
            await holder.beat()

        await asyncio.gather(*(some(holder) for holder in self.holders))

    async def second(self) -> None:
        """Run one second of service."""
        changes = round(self.size.calls / self.size.call_seconds)
        ends = [self._live.popleft() for _ in range(changes)]
        begins = [
            (self.holders[number % len(self.holders)], f"call-{next(self._numbers)}") for number in range(changes)
        ]
        for holder, uuid in ends:
            await asyncio.create_task(holder.end(uuid), name="end")
        for holder, uuid in begins:
            await asyncio.create_task(holder.begin(uuid), name="begin")
            self._live.append((holder, uuid))
        for holder in self.holders:
            await asyncio.create_task(holder.beat(), name="beat")
        await asyncio.create_task(self.publish_workers(), name="workers")


async def measure(size: Size = Size()) -> Figures:
    """Measure a cluster."""
    figures = Figures(size)
    async with redis() as server:
        cluster = Cluster(size, server.url)
        await cluster.fill()
        await cluster.second()
        gc.collect()
        gc.freeze()
        with sections.measured() as seen:
            before = await cluster.redis_seconds()
            for _ in range(size.seconds):
                await cluster.second()
            figures.redis_share = (await cluster.redis_seconds() - before) / size.seconds
            figures.words_share = await _words(cluster)
            await _pins(cluster, figures)
            await _list(cluster)
            figures.burst = await _together(cluster)
        figures.sections = seen.longest_ms
        gc.unfreeze()
        await cluster.aclose()
    return figures


async def _words(cluster: Cluster) -> float:
    """Write what is said in a second; return the CPU time that Redis takes for it."""
    memories: list[dict[str, CallMemory]] = []
    for holder in cluster.holders:
        spoken = list(holder.calls)[::ITEM_SECONDS]
        memories.append({uuid: CallMemory() for uuid in spoken})
    text = "x" * ITEM_CHARS
    for item in range(2):
        # The first items have written the memories; only the second ones are measured.
        before = await cluster.redis_seconds()
        for holder, some in zip(cluster.holders, memories, strict=True):
            for memory in some.values():
                memory.remember(wire.ItemUpdate(f"item_{item}", item={"role": "user", "text": text}), ITEM_CHARS)
            await asyncio.create_task(holder.placement.remember(some), name="remember")
            drafts = list(some)
            for start in range(0, len(drafts), DRAFTS_AT_ONCE):
                kept = dict.fromkeys(drafts[start : start + DRAFTS_AT_ONCE], "x" * DRAFT_CHARS)
                await holder.registry.keep_drafts(kept, seconds=600)
    return await cluster.redis_seconds() - before


async def _pins(cluster: Cluster, figures: Figures) -> None:
    """Measure single pins of new calls."""
    holder = cluster.holders[0]
    took = []
    before = await cluster.redis_seconds()
    for number in range(TIMED_PINS):
        began = time.perf_counter()
        await holder.place(f"timed-{number}")
        took.append(time.perf_counter() - began)
    figures.pin_redis_us = (await cluster.redis_seconds() - before) / TIMED_PINS * 1e6
    own = Latency.of(took)
    assert own is not None
    figures.pin_p50_ms, figures.pin_p99_ms = own.p50_ms, own.p99_ms


async def _together(cluster: Cluster) -> Burst:
    """Let many callers return to one dispatcher at once, and then as many new calls begin there."""
    holder = cluster.returned_to
    await holder.beat()
    returning = [uuid for other in cluster.holders for uuid in other.calls][: cluster.size.together]
    waits = []

    async def come(uuid: str) -> bool:
        began = time.perf_counter()
        pinned = await holder.place(uuid)
        waits.append(time.perf_counter() - began)
        return pinned

    pinned = []
    for uuids in (returning, [f"new-{number}" for number in range(cluster.size.together)]):
        tasks = [asyncio.create_task(come(uuid), name="together") for uuid in uuids]
        pinned.append(sum(await asyncio.gather(*tasks)))
    latency = Latency.of(waits)
    assert latency is not None
    return Burst(pinned[0], pinned[1], holder.away, latency.p99_ms)


async def _list(cluster: Cluster) -> None:
    """Read all calls by the calls API."""
    app = application(_Dispatcher(cluster.holders[0].registry))
    async with TestClient(TestServer(app)) as client:
        path = "/calls"
        listed = 0
        while path:
            async with client.get(path) as answer:
                listed += (await answer.read()).count(b'"uuid"')
                link = answer.headers.get("Link", "")
            path = f"/{link.partition('<')[2].partition('>')[0]}" if link else ""
    sys.stderr.write(f"bench: {listed} calls listed\n")

"""The held records and the outbox, kept in step: new, delivered and dead records go to Redis; claims are renewed.

Redis may be away. Then delivery goes on from this process, and Redis gets everything when it is back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from common.errors import RegistryUnavailable
from common.observe.line_limit import LineLimit
from common.observe.metrics import DispatcherMetrics
from common.observe.record_outcome import RecordOutcome
from common.runtime.backoff import Backoff
from dispatcher.records.held_records import HeldRecord, HeldRecords
from dispatcher.records.outbox import Outbox, Reply

LOOK_SECONDS: Final = 5.0
"""Time between two looks for lost claims, erasures, and records of processes that are gone."""

FULL_SECONDS: Final = 60.0
"""Time after which a record is stored again that had no room in Redis."""

MAX_BATCH: Final = 50
MAX_BATCH_BYTES: Final = 512 << 10
"""Bounds of one command, because Redis does nothing else meanwhile."""

MAX_SETTLED: Final = 10_000
"""Maximum number of delivered records that Redis has still to be told of; the oldest are forgotten."""

AWAY_PAUSE: Final = Backoff(0.25, 5.0)
LOG_SECONDS: Final = 60.0

log = structlog.get_logger()


class OutboxSync:
    """Keeps the outbox in step with the records that this process holds."""

    def __init__(
        self,
        outbox: Outbox,
        held: HeldRecords,
        metrics: DispatcherMetrics,
        *,
        sinks: Sequence[str],
        deliver: Callable[[HeldRecord], None],
        forget: Callable[[HeldRecord], None],
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        """Make a task that has done nothing yet.

        Args:
            outbox: the records in Redis.
            held: the records of this process.
            metrics: what is measured.
            sinks: names of the sinks of this process.
            deliver: called for each record that its sinks may get now.
            forget: called for each record that this process no longer has to deliver.
            look_seconds: time between two looks.
        """
        self._outbox = outbox
        self._held = held
        self._metrics = metrics
        self._sinks = tuple(sinks)
        self._deliver = deliver
        self._forget = forget
        self._look_seconds = look_seconds
        self._wake = asyncio.Event()
        self._changed: dict[str, HeldRecord] = {}
        self._settled: dict[str, tuple[str, ...]] = {}
        self._given_up: set[str] = set()
        self._failures = 0
        self._away_until = 0.0
        self._look_at = 0.0
        self._lines = LineLimit(LOG_SECONDS)

    @property
    def is_done(self) -> bool:
        """Whether Redis has, or knows of, everything."""
        return not self._changed and not self._settled

    def changed(self, record: HeldRecord) -> None:
        """Write a new or dead record soon."""
        record.store_at = 0.0
        self._changed[record.id] = record
        self._wake.set()
        if self._failures and not record.is_ready:
            self._start(record)

    def settled(self, record_id: str, waits: tuple[str, ...]) -> None:
        """Tell Redis soon which sinks a record still waits for."""
        self._changed.pop(record_id, None) if not waits else None
        self._settled[record_id] = waits
        while len(self._settled) > MAX_SETTLED:
            del self._settled[next(iter(self._settled))]
        self._wake.set()

    def forgotten(self, record_id: str) -> None:
        """Write a record no more, because this process holds it no more."""
        self._changed.pop(record_id, None)

    def given_up(self, record_id: str) -> None:
        """Release a record of Redis that this process has no room for: any process may deliver it, or drop it."""
        self._given_up.add(record_id)
        self._wake.set()

    async def step(self) -> None:
        """Wait for work or for the next look, and do it."""
        now = time.monotonic()
        work = bool(self._settled or self._given_up) or any(
            each.store_at <= now for each in self._changed.values()
        )
        due = max(self._away_until, now if work else self._look_at)
        if due > now:
            self._wake.clear()
            try:
                async with asyncio.timeout(due - now):
                    await self._wake.wait()
            except TimeoutError:
                pass
            if time.monotonic() < self._away_until:
                # New records wake this task, and must not ask a Redis that is away each time.
                await asyncio.sleep(max(0.0, min(self._away_until - time.monotonic(), 0.25)))
                return
        await self.work()

    async def work(self) -> None:
        """Bring Redis up to date, and look for records of other processes if it is time."""
        try:
            await self._give_up()
            await self._add()
            await self._settle()
            if time.monotonic() >= self._look_at:
                await self._look()
        except RegistryUnavailable as error:
            self._failures += 1
            self._away_until = time.monotonic() + AWAY_PAUSE.delay_seconds(self._failures)
            self._log(str(error))
            for record in list(self._changed.values()):
                self._start(record)
        else:
            self._failures = 0
            self._away_until = 0.0

    async def release(self) -> None:
        """Let other processes deliver at once what this process still holds."""
        ids = [record.id for record in self._held if record.is_stored]
        for start in range(0, len(ids), MAX_BATCH):
            await self._outbox.release(ids[start : start + MAX_BATCH])

    async def _give_up(self) -> None:
        while self._given_up:
            batch = list(self._given_up)[:MAX_BATCH]
            await self._outbox.release(batch)
            self._given_up.difference_update(batch)

    async def _add(self) -> None:
        now = time.monotonic()
        due = [record for record in self._changed.values() if record.store_at <= now]
        for batch in _batches(due):
            # A record that nobody holds must be counted if it is dropped now.
            await self._give_up()
            added = await self._outbox.add([record.for_outbox(now) for record in batch])
            self._metrics.call_records[RecordOutcome.DROPPED].inc(added.dropped)
            self._metrics.call_records[RecordOutcome.EVICTED].inc(added.evicted)
            if added.dropped and (times := self._lines.take("dropped", now)) is not None:
                log.error("call records dropped", times=times, reason="CALL_RECORDS_MAX_BYTES in Redis")
            for record, reply in zip(batch, added.replies, strict=True):
                self._added(record, reply)

    def _added(self, record: HeldRecord, reply: Reply) -> None:
        if self._held.get(record.id) is not record:
            # It was delivered or erased meanwhile.
            if self._changed.get(record.id) is record:
                del self._changed[record.id]
            return
        # Also without room: another process would write other bytes under this id.
        record.is_safe()
        if reply is Reply.FULL:
            record.is_stored = False
            record.store_at = time.monotonic() + FULL_SECONDS
            self._start(record)
            return
        self._changed.pop(record.id, None)
        if reply is Reply.ERASED:
            self._metrics.call_records[RecordOutcome.ERASED].inc()
        if reply is not Reply.OK or record.reason or not record.waits:
            self._held.remove(record.id)
            self._forget(record)
            return
        record.is_stored = True
        self._start(record)

    async def _settle(self) -> None:
        while self._settled:
            batch = dict(list(self._settled.items())[:MAX_BATCH])
            await self._outbox.settle(batch)
            for record_id, waits in batch.items():
                # The record may have reached another sink meanwhile.
                if self._settled.get(record_id) == waits:
                    del self._settled[record_id]

    async def _look(self) -> None:
        ids = [record.id for record in self._held if record.is_stored]
        for start in range(0, max(1, len(ids)), 10 * MAX_BATCH):
            renewed = await self._outbox.renew(ids[start : start + 10 * MAX_BATCH])
            for record_id, why in renewed.lost.items():
                self._lost(record_id, why)
            for record in self._held.erased(renewed.erasures):
                self._metrics.call_records[RecordOutcome.ERASED].inc()
                self._changed.pop(record.id, None)
                self._forget(record)
        if self._sinks:
            await self._claim()
        await self._outbox.sweep()
        self._look_at = time.monotonic() + self._look_seconds
        if self._changed:
            await self._add()

    async def _claim(self) -> None:
        if not self._held.free_bytes:
            return
        claimed = await self._outbox.claim(self._sinks, max_bytes=self._held.free_bytes)
        self._metrics.call_records[RecordOutcome.DEAD].inc(claimed.dead)
        self._metrics.call_records[RecordOutcome.DROPPED].inc(claimed.dropped)
        now = time.monotonic()
        taken = [HeldRecord.of(record, now) for record in claimed.records if self._held.get(record.id) is None]
        for record in taken:
            self._held.add(record)
            self._deliver(record)
        if taken:
            log.info("call records taken over", records=len(taken), reason="their dispatcher is gone")

    def _lost(self, record_id: str, why: Reply) -> None:
        record = self._held.get(record_id)
        if record is None or record_id in self._settled:
            return
        if why is Reply.UNKNOWN:
            record.is_stored = False
            self.changed(record)
            return
        if why is Reply.ERASED:
            self._metrics.call_records[RecordOutcome.ERASED].inc()
        self._held.remove(record_id)
        self._changed.pop(record_id, None)
        self._forget(record)

    def _start(self, record: HeldRecord) -> None:
        """Let the sinks have a record."""
        if not record.is_ready and not record.reason:
            record.is_ready = True
            self._deliver(record)

    def _log(self, reason: str) -> None:
        times = self._lines.take("away", time.monotonic())
        if times is not None:
            log.warning(
                "call records not in redis",
                reason=reason,
                waiting=len(self._held),
                times=times,
                effect="this process delivers them, and holds them until then",
            )


def _batches(records: Sequence[HeldRecord]) -> list[list[HeldRecord]]:
    batches: list[list[HeldRecord]] = []
    size = 0
    for record in records:
        if not batches or len(batches[-1]) >= MAX_BATCH or size + record.size > MAX_BATCH_BYTES:
            batches.append([])
            size = 0
        batches[-1].append(record)
        size += record.size
    return batches

"""The records of ended calls, from `ended` until every sink has them.

A record is redacted, held by this process, and written to the outbox in Redis. Then each sink gets it. Another
process delivers the records of one that died. A Redis that lost records gets them again. So each record is
delivered at least once, always with the same id and bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Sequence
from typing import Final

import structlog

from common.errors import RegistryUnavailable
from common.observe.line_limit import LineLimit
from common.observe.metrics import DispatcherMetrics, LastingTask
from common.observe.record_outcome import RecordOutcome
from common.runtime.lasting_task import repeat
from dispatcher.records import preparation
from dispatcher.records.call_record import CallRecord
from dispatcher.records.held_records import HeldRecord, HeldRecords
from dispatcher.records.outbox import GIVE_UP_SECONDS, Outbox
from dispatcher.records.outbox_sync import LOOK_SECONDS, OutboxSync
from dispatcher.records.record_taker import Stored
from dispatcher.records.redaction_hook import RedactionThread
from dispatcher.records.sink import Sink
from dispatcher.records.sink_delivery import SinkDelivery

STOP_SECONDS: Final = 5.0
"""Maximum time for the last deliveries of a process that ends."""

LAST_SECONDS: Final = 0.4
"""Time that is left for records when the process must end at once."""

GAUGE_SECONDS: Final = 5.0
LOG_SECONDS: Final = 60.0
_RAW_BYTES: Final = 2048

log = structlog.get_logger()


class Records:
    """The records of this process, and those that it takes over from others."""

    def __init__(
        self,
        outbox: Outbox,
        sinks: Sequence[Sink],
        redaction: RedactionThread,
        metrics: DispatcherMetrics,
        *,
        max_bytes: int,
        look_seconds: float = LOOK_SECONDS,
        give_up_seconds: float = GIVE_UP_SECONDS,
    ) -> None:
        """Make records that are not delivered yet.

        Args:
            outbox: the records in Redis.
            sinks: destinations; none: records are only kept for the calls API.
            redaction: of what was said.
            metrics: what is measured.
            max_bytes: of the records that this process holds.
            look_seconds: time between two looks at claims.
            give_up_seconds: time for which delivery is tried.
        """
        self.outbox: Outbox | None = outbox
        self._outbox = outbox
        self._redaction = redaction
        self._metrics = metrics
        self._max_bytes = max_bytes
        self._sinks = tuple(sink.name for sink in sinks)
        self._held = HeldRecords(max_bytes)
        self._deliveries = {
            sink.name: SinkDelivery(sink, self._held, self._settled, give_up_seconds=give_up_seconds)
            for sink in sinks
        }
        self._sync = OutboxSync(
            outbox,
            self._held,
            metrics,
            sinks=self._sinks,
            deliver=self._deliver,
            forget=self._forgotten,
            look_seconds=look_seconds,
        )
        self._raw: deque[tuple[CallRecord, Stored | None, int]] = deque()
        self._raw_bytes = 0
        self._arrived = asyncio.Event()
        self._preparing = False
        self._stopped = False
        self._progress = asyncio.Event()
        self._lines = LineLimit(LOG_SECONDS)
        self._tasks: list[asyncio.Task[None]] = []

    def ended(self, record: CallRecord, stored: Stored | None = None) -> None:
        """See `RecordTaker.ended`."""
        size = _RAW_BYTES + sum(len(said.text) for said in record.said or ())
        self._raw.append((record, stored, size))
        self._raw_bytes += size
        while self._raw_bytes > self._max_bytes and len(self._raw) > 1:
            _, dropped, dropped_size = self._raw.popleft()
            self._raw_bytes -= dropped_size
            self._dropped("redaction is too slow")
            if dropped is not None:
                dropped()
        self._arrived.set()

    async def start(self) -> None:
        """See `RecordTaker.start`."""
        failures = self._metrics.task_failures[LastingTask.RECORDS]
        steps = (self._prepare, self._sync.step, self._measure, *(each.run for each in self._deliveries.values()))
        self._tasks = [
            asyncio.create_task(repeat(step, task=LastingTask.RECORDS.value, failures=failures)) for step in steps
        ]

    async def stop(self, at_once: asyncio.Event) -> None:
        """See `RecordTaker.stop`."""
        if self._stopped:
            return
        self._stopped = True
        # 1. Let the last records reach the sinks, or at least Redis.
        waits = [asyncio.create_task(self._wait_done()), asyncio.create_task(at_once.wait())]
        await asyncio.wait(waits, timeout=STOP_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if not waits[0].done():
            await asyncio.wait(waits[:1], timeout=LAST_SECONDS / 2)
        for task in (*waits, *self._tasks):
            task.cancel()
        await asyncio.gather(*waits, *self._tasks, return_exceptions=True)
        # 2. Leave the rest to other processes.
        left = len(self._held) + len(self._raw)
        if left:
            with contextlib.suppress(RegistryUnavailable, TimeoutError):
                async with asyncio.timeout(LAST_SECONDS / 2):
                    await self._sync.release()
            alone = sum(not record.is_stored for record in self._held) + len(self._raw)
            log.warning(
                "call records left", records=left, lost=alone, effect="another dispatcher delivers the others"
            )
        # 3. Close the sinks and Redis.
        for delivery in self._deliveries.values():
            await delivery.sink.aclose()
        await self._outbox.aclose()

    async def _prepare(self) -> None:
        """Redact and encode the next record."""
        self._arrived.clear()
        if not self._raw:
            self._preparing = False
            self._progress.set()
            await self._arrived.wait()
        self._preparing = True
        record, stored, size = self._raw.popleft()
        self._raw_bytes -= size
        try:
            record, failures = await preparation.redacted(record, self._redaction)
            body = preparation.encoded(record)
        except Exception:
            self._dropped("it cannot be encoded")
            raise
        if failures:
            self._metrics.call_records[RecordOutcome.REDACTION_FAILED].inc()
        now = time.monotonic()
        held = preparation.held(record, body, self._sinks, now, is_kept=self._outbox.keep_seconds > 0)
        held.stored = stored
        if self._held.get(held.id) is not None:
            # One id has the bytes of its first record.
            held.is_safe()
            return
        for removed in self._held.add(held):
            self._removed(removed)
        if self._held.get(held.id) is held:
            self._sync.changed(held)

    def _deliver(self, record: HeldRecord) -> None:
        for sink in record.waits:
            if sink in self._deliveries:
                self._deliveries[sink].push(record)

    def _settled(self, record: HeldRecord) -> None:
        """React to a sink that has taken a record, or never will."""
        self._progress.set()
        if record.reason:
            self._metrics.call_records[RecordOutcome.DEAD].inc()
            log.warning("call record dead", uuid=record.uuid, record=record.id, reason=record.reason)
            self._sync.changed(record)
        elif record.waits:
            if record.is_stored:
                self._sync.settled(record.id, record.waits)
        else:
            self._metrics.call_records[RecordOutcome.DELIVERED].inc()
            if record.is_kept and not record.is_stored:
                self._sync.changed(record)
                return
            self._held.remove(record.id)
            self._sync.settled(record.id, ())
            record.is_safe()

    def _forgotten(self, record: HeldRecord) -> None:
        self._progress.set()
        for delivery in self._deliveries.values():
            delivery.queue.forget(record.id)

    def _removed(self, record: HeldRecord) -> None:
        """React to a record that this process has no room for."""
        self._sync.forgotten(record.id)
        self._forgotten(record)
        record.is_safe()
        if record.is_stored:
            self._sync.given_up(record.id)
        elif record.waits:
            self._dropped("CALL_RECORDS_MAX_BYTES in this process")
        else:
            self._metrics.call_records[RecordOutcome.EVICTED].inc()

    def _dropped(self, reason: str) -> None:
        self._metrics.call_records[RecordOutcome.DROPPED].inc()
        times = self._lines.take("dropped", time.monotonic())
        if times is not None:
            log.error("call records dropped", times=times, reason=reason)

    async def _measure(self) -> None:
        self._metrics.call_records_waiting.set(len(self._held) + len(self._raw))
        self._metrics.call_records_oldest.set(self._held.oldest_seconds(time.monotonic()))
        await asyncio.sleep(GAUGE_SECONDS)

    async def _wait_done(self) -> None:
        """Wait until no record depends on this process, and each sink has been tried."""
        while not self._is_done():
            self._progress.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await self._progress.wait()

    def _is_done(self) -> bool:
        if self._raw or self._preparing or not self._sync.is_done:
            return False
        return all(
            record.is_stored
            and all(
                self._deliveries[sink].queue.was_tried(record.id)
                for sink in record.waits
                if sink in self._deliveries and sink not in record.refused
            )
            for record in self._held
        )

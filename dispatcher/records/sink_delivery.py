"""The delivery of held records to one sink: as many at once as the sink permits, in the order of its queue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from common.observe.line_limit import LineLimit
from dispatcher.records.held_records import HeldRecord, HeldRecords
from dispatcher.records.outbox import GIVE_UP_SECONDS
from dispatcher.records.sink import Delivery, Outcome, Sink, Verdict
from dispatcher.records.sink_queue import SinkQueue

LOG_SECONDS: Final = 60.0

log = structlog.get_logger()


class SinkDelivery:
    """Delivers records to one sink.

    Attributes:
        sink: the sink.
        queue: records that wait for it.
    """

    def __init__(
        self,
        sink: Sink,
        held: HeldRecords,
        changed: Callable[[HeldRecord], None],
        *,
        give_up_seconds: float = GIVE_UP_SECONDS,
    ) -> None:
        """Make a delivery without records.

        Args:
            sink: the sink.
            held: all records of this process.
            changed: called when the sink has a record, or the record is dead.
            give_up_seconds: time for which delivery is tried.
        """
        self.sink = sink
        self.queue = SinkQueue()
        self._held = held
        self._changed = changed
        self._give_up_seconds = give_up_seconds
        self._wake = asyncio.Event()
        self._flying: set[asyncio.Task[None]] = set()
        self._lines = LineLimit(LOG_SECONDS)

    def push(self, record: HeldRecord) -> None:
        """Deliver a record as soon as possible."""
        self.queue.push(record.id, time.monotonic())
        self._wake.set()

    async def run(self) -> None:
        """Deliver until cancelled."""
        try:
            while True:
                await self._step()
        finally:
            for task in self._flying:
                task.cancel()

    async def _step(self) -> None:
        self._wake.clear()
        now = time.monotonic()
        if len(self._flying) < self.sink.parallel:
            taken = [record for each in self.queue.take(now, self.sink.batch) if (record := self._held.get(each))]
            if taken:
                task = asyncio.create_task(self._deliver(taken), name=f"deliver to {self.sink.name}")
                self._flying.add(task)
                task.add_done_callback(self._landed)
                return
        wake_at = self.queue.wake_at() if len(self._flying) < self.sink.parallel else None
        try:
            async with asyncio.timeout(None if wake_at is None else max(0.0, wake_at - now)):
                await self._wake.wait()
        except TimeoutError:
            return

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._flying.discard(task)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("delivery of call records failed", sink=self.sink.name, exc_info=error)

    async def _deliver(self, records: Sequence[HeldRecord]) -> None:
        ids = [record.id for record in records]
        try:
            outcome = await self.sink.deliver([Delivery(record.id, record.body) for record in records])
        except Exception:
            self.queue.failed(ids, time.monotonic())
            raise
        now = time.monotonic()
        if outcome.verdict is Verdict.DELIVERED:
            self.queue.delivered(ids)
        elif outcome.verdict is Verdict.FAILED:
            self.queue.failed(ids, now, outcome.retry_after_seconds)
            self._log(outcome, now)
        else:
            self.queue.refused(ids)
        for record in records:
            # An erased record is held no more.
            if self._held.get(record.id) is not record:
                self.queue.forget(record.id)
            else:
                self._settle(record, outcome, now)

    def _settle(self, record: HeldRecord, outcome: Outcome, now: float) -> None:
        if outcome.verdict is Verdict.DELIVERED:
            record.taken_by(self.sink.name)
        elif outcome.verdict is Verdict.FAILED and now - record.since_seconds < self._give_up_seconds:
            return
        else:
            self.queue.forget(record.id)
            record.refused_by(self.sink.name, outcome.reason)
        self._changed(record)

    def _log(self, outcome: Outcome, now: float) -> None:
        times = self._lines.take(outcome.reason[:40], now)
        if times is not None:
            log.warning(
                "call records not delivered",
                sink=self.sink.name,
                reason=outcome.reason,
                waiting=len(self._held),
                times=times,
                effect="they are tried again for a day",
            )

"""Records of one process, with short times, on a real Redis."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from common.observe import metrics
from common.observe.record_outcome import RecordOutcome
from common.store.bounded_redis import BoundedRedis
from dispatcher.records.outbox import Outbox
from dispatcher.records.records import Records
from dispatcher.records.redaction import Hook, Redactor
from dispatcher.records.redaction_hook import RedactionThread
from dispatcher.records.sink import Sink

LOOK_SECONDS = 0.05


@contextlib.asynccontextmanager
async def running(
    redis_url: str,
    sinks: Sequence[Sink],
    process: str = "p-1",
    *,
    max_bytes: int = 1 << 20,
    keep_seconds: int = 0,
    hook: Hook | None = None,
    timeout_seconds: float = 30,
    lease_seconds: float = 20,
    **options: Any,
) -> AsyncIterator[Records]:
    """Run the records of a process; they stop with the context."""
    connection = BoundedRedis.from_url(redis_url, timeout_seconds=timeout_seconds)
    records = Records(
        Outbox(connection, process, max_bytes=max_bytes, keep_seconds=keep_seconds, lease_seconds=lease_seconds),
        sinks,
        RedactionThread(Redactor(hook)),
        metrics.dispatcher(),
        max_bytes=max_bytes,
        look_seconds=LOOK_SECONDS,
        **options,
    )
    await records.start()
    try:
        yield records
    finally:
        at_once = asyncio.Event()
        at_once.set()
        await records.stop(at_once)


def counted(outcome: RecordOutcome) -> float:
    """Return the value of a counter."""
    value: float = metrics.dispatcher().call_records[outcome]._value.get()
    return value

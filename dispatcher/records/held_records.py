"""The records that this process holds until every sink has them, Sans-I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from dispatcher.records.outbox import OutboxRecord

OVERHEAD_BYTES: Final = 1024
"""Of a held record, beside its body."""


@dataclass(slots=True)
class HeldRecord:
    """A record in this process.

    Attributes:
        id: of the record.
        uuid: of the call.
        selectors: for erasures.
        ended_ms: end of the call, in milliseconds since the epoch.
        body: the record's bytes.
        waits: sinks that do not have it yet, in a fixed order.
        since_seconds: when delivery was first tried, on the monotonic clock.
        is_stored: Redis has it, claimed by this process.
        is_ready: sinks may get it; before, Redis is asked whether another process has this id.
        is_kept: the calls API keeps it, so it must reach Redis even if it is delivered.
        store_at: when to try again to store it.
        refused: sinks that never take it, or did not take it for a day, with the reason.
        reason: why it is dead; empty: it is not.
        stored: called once; see `RecordTaker.ended`.
    """

    id: str
    uuid: str
    selectors: tuple[str, ...]
    ended_ms: int
    body: bytes = field(repr=False)
    waits: tuple[str, ...]
    since_seconds: float
    is_stored: bool = False
    is_ready: bool = False
    is_kept: bool = False
    store_at: float = 0.0
    refused: dict[str, str] = field(default_factory=dict)
    reason: str = ""
    stored: Callable[[], None] | None = None

    @property
    def size(self) -> int:
        """Number of bytes that it counts for."""
        return len(self.body) + OVERHEAD_BYTES

    def taken_by(self, sink: str) -> None:
        """Note that a sink has the record."""
        self.waits = tuple(each for each in self.waits if each != sink)
        self._end_refused()

    def refused_by(self, sink: str, reason: str) -> None:
        """Note that a sink will not take the record; it is dead when no other sink is left."""
        self.refused[sink] = reason
        self._end_refused()

    def _end_refused(self) -> None:
        if self.waits and all(sink in self.refused for sink in self.waits):
            self.reason = "; ".join(f"{sink}: {self.refused[sink]}" for sink in self.waits)

    def is_safe(self) -> None:
        """Tell the record's writer that no other process should write a record of this call any more."""
        if self.stored is not None:
            stored, self.stored = self.stored, None
            stored()

    def for_outbox(self, now: float) -> OutboxRecord:
        """Return the record as the outbox stores it."""
        return OutboxRecord(
            id=self.id,
            uuid=self.uuid,
            selectors=self.selectors,
            waits=self.waits,
            ended_ms=self.ended_ms,
            age_seconds=max(0.0, now - self.since_seconds),
            reason=self.reason,
            body=self.body,
        )

    @classmethod
    def of(cls, record: OutboxRecord, now: float) -> HeldRecord:
        """Return a record that was claimed from another process."""
        return cls(
            id=record.id,
            uuid=record.uuid,
            selectors=record.selectors,
            ended_ms=record.ended_ms,
            body=record.body,
            waits=record.waits,
            since_seconds=now - record.age_seconds,
            is_stored=True,
            is_ready=True,
        )


class HeldRecords:
    """All records of this process, bounded in bytes.

    Attributes:
        size: their number of bytes.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._records: dict[str, HeldRecord] = {}
        self.size = 0

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[HeldRecord]:
        return iter(list(self._records.values()))

    def get(self, record_id: str) -> HeldRecord | None:
        """Return a record; None if this process does not hold it."""
        return self._records.get(record_id)

    def add(self, record: HeldRecord) -> list[HeldRecord]:
        """Hold a record; return the records that this process holds no more, those that it had first."""
        if record.id in self._records:
            return []
        self._records[record.id] = record
        self.size += record.size
        removed = []
        while self.size > self._max_bytes:
            oldest = next(iter(self._records.values()))
            self.remove(oldest.id)
            removed.append(oldest)
        return removed

    def remove(self, record_id: str) -> HeldRecord | None:
        """Hold a record no more, and return it."""
        record = self._records.pop(record_id, None)
        if record is not None:
            self.size -= record.size
        return record

    def erased(self, erasures: Mapping[str, int]) -> list[HeldRecord]:
        """Remove and return the records of calls that ended before an erasure of one of their selectors.

        Args:
            erasures: time of the erasure in milliseconds since the epoch, by selector.
        """
        if not erasures:
            return []
        found = [
            record
            for record in self
            if any(erasures.get(selector, -1) >= record.ended_ms for selector in record.selectors)
        ]
        for record in found:
            self.remove(record.id)
        return found

    @property
    def free_bytes(self) -> int:
        """Number of bytes up to the half of the bound, which other processes' records may use."""
        return max(0, self._max_bytes // 2 - self.size)

    def oldest_seconds(self, now: float) -> float:
        """Return the time since delivery of a record was first tried, of all the longest; 0 without records."""
        return max((now - each.since_seconds for each in self._records.values()), default=0.0)

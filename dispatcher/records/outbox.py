"""The outbox in Redis: records that wait for a sink, dead letters, and records that are kept for the calls API.

The key schema stands on top of `lua/_prelude.lua`. Every method raises `RegistryUnavailable` if Redis is away.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from redis.exceptions import ResponseError

from common.errors import RegistryUnavailable
from common.store.bounded_redis import BoundedRedis
from common.store.keys import KEY_PREFIX

PREFIX: Final = f"{KEY_PREFIX}records:"
LEASE_SECONDS: Final = 20.0
"""Time after which another process delivers the records of one that no longer renews its claims."""

GIVE_UP_SECONDS: Final = 86_400.0
"""Time for which delivery of a record is tried."""

STALLED_SECONDS: Final = 3_600.0
"""Further time after which a record is dead that no process has delivered or given up."""

MEMORY_SHARE: Final = 0.8
"""Share of Redis' `maxmemory` that records may fill it up to; the rest is for pins."""

MAX_CLAIMED: Final = 200
BATCH: Final = 50
"""Number of records per command that reads them: each has up to 256 KiB."""

ERASE_BATCH: Final = 500
"""Number of records per command that erases."""

_LUA: Final = Path(__file__).with_name("lua")
_MS: Final = 1000


class Reply(StrEnum):
    """The answer of the outbox to a record."""

    OK = "ok"
    TAKEN = "taken"
    """Another process has this id, perhaps with other bytes: those win."""
    DELIVERED = "delivered"
    ERASED = "erased"
    FULL = "full"
    """There is no room, for the bound or for `maxmemory`."""
    UNKNOWN = "unknown"
    """Redis has lost the record."""


@dataclass(frozen=True, slots=True)
class OutboxRecord:
    """A record as the outbox stores it.

    Attributes:
        id: of the record.
        uuid: of the call.
        selectors: for erasures.
        waits: sinks that do not have the record yet.
        ended_ms: end of the call, in milliseconds since the epoch.
        age_seconds: time since delivery was first tried.
        reason: why the record is dead; empty: it is not.
        body: the record's bytes.
    """

    id: str
    uuid: str
    selectors: tuple[str, ...]
    waits: tuple[str, ...]
    ended_ms: int
    age_seconds: float
    reason: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Added:
    """The answer to `Outbox.add`.

    Attributes:
        replies: one for each record.
        dropped: number of undelivered records that are lost.
        evicted: number of kept records that made room.
    """

    replies: tuple[Reply, ...]
    dropped: int = 0
    evicted: int = 0


@dataclass(frozen=True, slots=True)
class Renewed:
    """The answer to `Outbox.renew`.

    Attributes:
        lost: records that are not claimed, with the reason.
        erasures: time of each erasure, in milliseconds since the epoch, by selector.
    """

    lost: dict[str, Reply]
    erasures: dict[str, int]


@dataclass(frozen=True, slots=True)
class Claimed:
    """The answer to `Outbox.claim`."""

    records: tuple[OutboxRecord, ...]
    dead: int
    dropped: int


class Outbox:
    """The records in one Redis."""

    def __init__(
        self,
        connection: BoundedRedis,
        process: str,
        *,
        max_bytes: int,
        keep_seconds: int,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        """Make the outbox of a process.

        Args:
            connection: to Redis.
            process: id of this process, unique.
            max_bytes: of all records in Redis.
            keep_seconds: time for which the calls API has a record.
            lease_seconds: of claims.
        """
        self._connection = connection
        self._redis = connection.redis
        self._run = connection.run
        self._process = process
        self._max_bytes = max_bytes
        self._lease_ms = _ms(lease_seconds)
        self.keep_seconds = keep_seconds
        self._tells_memory = True
        names = ("add", "renew", "claim", "settle", "release", "sweep", "retry", "erase")
        self._scripts = {name: connection.script(_LUA, name, PREFIX) for name in names}

    async def add(self, records: Sequence[OutboxRecord]) -> Added:
        """Store records, and claim those that wait for a sink."""
        if not await self._has_memory(sum(len(record.body) for record in records)):
            return Added((Reply.FULL,) * len(records))
        args: list[str | int | bytes] = [
            self._process,
            self._lease_ms,
            _ms(self.keep_seconds),
            self._max_bytes,
        ]
        for record in records:
            args += (record.id, record.uuid, " ".join(record.selectors), ",".join(record.waits))
            args += (record.ended_ms, _ms(record.age_seconds), record.reason, record.body)
        replies, dropped, evicted = await self._script("add", args)
        return Added(tuple(map(Reply, replies)), dropped, evicted)

    async def renew(self, ids: Sequence[str]) -> Renewed:
        """Renew the claims of records that this process holds."""
        lost, erasures = await self._script("renew", [self._process, self._lease_ms, *ids])
        return Renewed(
            {record_id: Reply(why) for record_id, why in _pairs(lost)},
            {selector: int(float(at_ms)) for selector, at_ms in _pairs(erasures)},
        )

    async def claim(self, sinks: Iterable[str], *, max_bytes: int) -> Claimed:
        """Claim records of processes that are gone, if they wait only for these sinks."""
        give_up_ms = _ms(GIVE_UP_SECONDS + STALLED_SECONDS)
        args: list[str | int | bytes] = [self._process, self._lease_ms, MAX_CLAIMED, max_bytes, give_up_ms]
        args += sinks
        rows, dead, dropped = await self._script("claim", args)
        return Claimed(tuple(map(_claimed, rows)), dead, dropped)

    async def settle(self, waits: dict[str, tuple[str, ...]]) -> None:
        """Note which sinks records still wait for, by id; none: the record is delivered."""
        await self._script("settle", [part for each, sinks in waits.items() for part in (each, ",".join(sinks))])

    async def release(self, ids: Sequence[str]) -> None:
        """End the claims of records, for another process to deliver them at once."""
        await self._script("release", [self._process, *ids])

    async def sweep(self) -> int:
        """Delete kept and dead records whose time is over; return their number."""
        return int(await self._script("sweep", []))

    async def retry(self, uuid: str = "") -> int:
        """Make the dead records of a call, or all, pending again; return their number."""
        return int(await self._script("retry", [uuid]))

    async def erase(self, selector: str) -> int:
        """Erase all records with a selector, also those that other processes hold; return the number in Redis."""
        erased = int(await self._script("erase", [selector, 1]))
        for name in ("pending", "dead", "kept"):
            ids = await self._run(self._redis.zrange, f"{PREFIX}{name}", 0, -1)
            for start in range(0, len(ids), ERASE_BATCH):
                erased += int(await self._script("erase", [selector, 0, *ids[start : start + ERASE_BATCH]]))
        return erased

    async def of_call(self, uuid: str) -> list[OutboxRecord]:
        """Return the records of a call, the oldest first."""
        ids = await self._run(self._redis.smembers, f"{PREFIX}call:{uuid}")
        return sorted(await self._read(list(ids)), key=lambda record: (record.ended_ms, record.id))

    async def newest(
        self, *, dead: bool, before: tuple[int, str] | None = None
    ) -> AsyncIterator[tuple[tuple[int, str], OutboxRecord | None]]:
        """Yield dead or kept records with their places, the newest first; None for a record that ended meanwhile.

        Args:
            dead: dead records, or kept ones.
            before: a place; records before it in time follow.
        """
        key = f"{PREFIX}{'dead' if dead else 'kept'}"
        while True:
            low, high = "-inf", "+inf" if before is None else before[0]
            start = 0
            places: list[tuple[int, str]] = []
            # Records of one millisecond are in the order of their ids; those before the place are skipped.
            while not places:
                rows = await self._run(self._redis.zrevrangebyscore, key, high, low, start, BATCH, withscores=True)
                if not rows:
                    return
                found = [(int(score), record_id) for record_id, score in rows]
                places = [place for place in found if before is None or place < before]
                start += BATCH
            records = {record.id: record for record in await self._read([place[1] for place in places])}
            for place in places:
                yield place, records.get(place[1])
            before = places[-1]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._connection.aclose()

    async def _read(self, ids: Sequence[str]) -> list[OutboxRecord]:
        now_seconds, now_micros = await self._run(self._redis.time)
        now_ms = now_seconds * _MS + now_micros // _MS
        records = []
        for start in range(0, len(ids), BATCH):
            batch = ids[start : start + BATCH]
            async with self._redis.pipeline(transaction=False) as pipeline:
                for record_id in batch:
                    pipeline.hgetall(f"{PREFIX}record:{record_id}")
                replies = await self._run(pipeline.execute)
            records += [
                _stored(each, fields, now_ms)
                for each, fields in zip(batch, replies, strict=True)
                if "body" in fields
            ]
        return records

    async def _has_memory(self, more_bytes: int) -> bool:
        """Return whether Redis has room below the share of its `maxmemory` that records may use."""
        if not self._tells_memory:
            return True
        try:
            memory = await self._run(self._redis.info, "memory")
        except RegistryUnavailable as error:
            if not isinstance(error.__cause__, ResponseError):
                raise
            # The embedded Redis has no such command, and an account may not be allowed to use it.
            self._tells_memory = False
            return True
        most = int(memory.get("maxmemory", 0))
        used = int(memory.get("used_memory", 0)) + more_bytes
        return not most or used <= MEMORY_SHARE * most

    async def _script(self, name: str, args: Sequence[str | int | bytes]) -> Any:
        return await self._run(self._scripts[name], args=args)


def _ms(seconds: float) -> int:
    return round(seconds * _MS)


def _pairs(flat: Sequence[str]) -> Iterable[tuple[str, str]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _claimed(row: Sequence[str]) -> OutboxRecord:
    record_id, uuid, selectors, waits, ended_ms, age_ms, body = row
    return OutboxRecord(
        id=record_id,
        uuid=uuid,
        selectors=tuple(selectors.split()),
        waits=_sinks(waits),
        ended_ms=int(ended_ms),
        age_seconds=max(0, int(age_ms)) / _MS,
        reason="",
        body=body.encode(),
    )


def _stored(record_id: str, fields: dict[str, str], now_ms: int) -> OutboxRecord:
    return OutboxRecord(
        id=record_id,
        uuid=fields.get("uuid", ""),
        selectors=tuple(fields.get("selectors", "").split()),
        waits=_sinks(fields.get("waits", "")),
        ended_ms=int(fields.get("ended_ms", 0)),
        age_seconds=max(0, now_ms - int(fields.get("since_ms", now_ms))) / _MS,
        reason=fields.get("reason", ""),
        body=fields["body"].encode(),
    )


def _sinks(waits: str) -> tuple[str, ...]:
    return tuple(each for each in waits.split(",") if each)

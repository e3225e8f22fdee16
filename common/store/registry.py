"""The shared state in Redis: leases of processes, pins of calls, and the memory of calls.

The key schema stands on top of `lua/_prelude.lua`. Each atomic operation is a script in `lua/`, by the clock of
Redis. A record of a call counts as long as the lease of its holder, and is removed soon after (docs/adr/0014).
Needs Redis 6.2 or newer; Redis Cluster is not supported.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Self, TypeVar

from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from common.errors import RegistryUnavailable
from common.observe.redaction import without_known
from common.store.bounded_redis import BoundedRedis
from common.store.keys import KEY_PREFIX, PREVIOUS_KEY_PREFIX
from common.store.leases import (
    Beat,
    CallLease,
    CallRecord,
    CallsPage,
    Renewal,
    TableChanges,
    TableVersion,
    WorkerRecord,
    WorkerStatus,
    release_order,
)
from common.store.memory import MemoryUpdate
from common.store.pins import NoCapacity, NoCapacityReason, Pin, Superseded
from common.store.record_reader import CALL_FIELDS, CONNECTING, RecordReader

# Begins the name of a claim to write the record of a call.
RECORD_CLAIM = "record:"

# Stands for the dispatcher of a call whose dispatcher is gone.
NOBODY = ""

# Workers accept calls that lost their session above the capacity, up to this multiple of it; new calls not.
OVER_CAPACITY = 1.5
# Calls per command. One command delays Redis by 1 ms (others' pins) and this event loop by 2 ms.
_BATCH = 50
# Workers per command, for the same reason.
_ROWS = 50
# Calls of a page that are read at once.
_PAGE = 100
# Calls without a holder that are read at once.
_ORPHANS = 500
# Fields that tell whether the memory is complete.
_SAID_CHECKS = frozenset({"version", "fields"})
# Longer than a dispatcher takes to look, and shorter than the time until a new call may have this uuid.
_HANG_UP_SECONDS = 5
_LUA = Path(__file__).with_name("lua")
T = TypeVar("T")


class Registry:
    """The service's shared state in Redis.

    Known secrets are not written (`common.observe.redaction`).

    Every method raises `RegistryUnavailable` if Redis refuses a command, or does not answer within
    `timeout_seconds`, connecting included. `RegistryBusy` is raised if too many commands wait: Redis is not away.
    Commands are not retried. A command that raised may have been executed all the same; the next renewal or the
    end of a lease corrects that.
    """

    def __init__(self, connection: BoundedRedis) -> None:
        self._connection = connection
        self._redis = connection.redis
        self._bounded = connection.run
        self._renewing = asyncio.Lock()
        self._reader = RecordReader()
        # Records of this process's workers, with their revisions.
        self._published: dict[str, tuple[WorkerRecord, str]] = {}
        self._publish_worker = self._script("publish_worker")
        self._leave = self._script("leave")
        self._beat = self._script("beat")
        self._table = self._script("table")
        self._call = self._script("call")
        self._calls = self._script("calls")
        self._orphans = self._script("orphans")
        self._pin = self._script("pin")
        self._unpin = self._script("unpin")
        self._renew = self._script("renew")
        self._remember = self._script("remember")
        self._keep_drafts = self._script("keep_drafts")

    @classmethod
    def from_url(cls, url: str, *, timeout_seconds: float = 0.5) -> Self:
        """Create a registry that connects at its first command.

        Args:
            url: as `common.net.redis_url` describes.

        Raises:
            ValueError: the URL is none of these.
        """
        return cls(BoundedRedis.from_url(url, timeout_seconds=timeout_seconds))

    @property
    def switches(self) -> int:
        """How often another server has become the primary: it may lack the latest writes."""
        return self._connection.switches

    def use_account(self, url: str | None) -> None:
        """Use this URL's user and password for new connections; open connections stay."""
        self._connection.use_account(url)

    async def ping(self) -> bool:
        """Return whether Redis answers in time."""
        try:
            await self._bounded(self._redis.ping)
        except RegistryUnavailable:
            return False
        return True

    async def aclose(self) -> None:
        """Close the connections; leases end by themselves."""
        await self._connection.aclose()

    def has_answered(self, seconds: float) -> bool:
        """Return whether Redis has answered a command within the last seconds."""
        return self._connection.has_answered(seconds)

    async def publish_worker(self, worker: WorkerRecord, *, lease_seconds: float) -> None:
        """Publish a worker, or its new state, for `lease_seconds`. An unchanged record is written once."""
        lease_ms = _ms(lease_seconds)
        known, revision = self._published.get(worker.id, (None, ""))
        if known == worker and await self._bounded(self._publish_worker, args=[worker.id, lease_ms, revision]):
            return
        record: dict[str, str | int] = {
            "address": worker.address,
            "host": worker.host,
            "pid": worker.pid,
            "release": worker.release,
            "release_order": release_order(worker.release),
            "capacity": worker.capacity,
            "state": worker.state.value,
            "boot_id": worker.boot_id,
            "problem": worker.problem,
        }
        fields = [part for field in record.items() for part in field]
        revision = secrets.token_hex(4)
        await self._bounded(self._publish_worker, args=[worker.id, lease_ms, revision, *fields])
        self._published[worker.id] = (worker, revision)

    async def remove_worker(self, worker_id: str) -> None:
        """Delete a worker that ends. Calls that it still holds stay with their dispatchers."""
        self._published.pop(worker_id, None)
        await self._bounded(self._leave, args=["worker", worker_id])

    async def remove_dispatcher(self, dispatcher_id: str) -> None:
        """End the lease of a dispatcher that ends and holds no call any more."""
        await self._bounded(self._leave, args=["dispatcher", dispatcher_id])

    async def workers(self) -> list[WorkerStatus]:
        """Return the live workers, sorted by id."""
        workers: dict[str, WorkerStatus] = {}
        version = TableVersion(loads="+inf")
        while True:
            changes = await self.table(version)
            workers |= {worker.id: worker for worker in changes.workers}
            for worker_id in changes.gone:
                workers.pop(worker_id, None)
            if not changes.has_more:
                return sorted(workers.values(), key=lambda worker: worker.id)
            version = changes.version

    async def table(self, version: TableVersion) -> TableChanges:
        """Return changes of the worker table since a version; the first ones, if there are many."""
        return self._reader.changes(*await self._bounded(self._table, args=[*version, _ROWS]))

    async def beat(
        self,
        dispatcher: str,
        *,
        lease_seconds: float,
        version: TableVersion,
        not_held: Mapping[str, str] = MappingProxyType({}),
    ) -> Beat:
        """Extend the lease of a dispatcher and of its calls, and learn what has changed.

        Args:
            dispatcher: its id.
            lease_seconds: from now.
            version: of the worker table that it knows.
            not_held: calls of an earlier answer's `checks` that the dispatcher does not hold.
        """
        acknowledged = [part for check in not_held.items() for part in check]
        reply = await self._bounded(
            self._beat, args=[dispatcher, _ms(lease_seconds), *version, _ROWS, *acknowledged]
        )
        known, run, checks, records, loads = reply
        pairs = dict(zip(checks[::2], checks[1::2], strict=True))
        return Beat(bool(known), run, pairs, self._reader.changes(records, loads))

    async def previous_workers(self) -> int:
        """Return the number of live workers of the release whose keys have another prefix."""
        seconds, _ = await self._bounded(self._redis.time)
        key = f"{PREVIOUS_KEY_PREFIX}workers"
        return int(await self._bounded(self._redis.zcount, key, f"({seconds * 1000}", "+inf"))

    async def pin(
        self,
        uuid: str,
        *,
        dispatcher: str,
        epoch: int,
        metadata: Mapping[str, str],
        lease_seconds: float,
        excluded: Collection[str] = (),
        over_capacity: float = 1.0,
        attach: bool = False,
        known_epoch: int | None = None,
    ) -> Pin | NoCapacity | Superseded:
        """Give a call to a worker in one atomic step.

        Candidates are the live workers that are ready, not excluded and below their capacity. Of these the newest
        release wins, then the lowest load relative to the capacity. A pinned call loses its old slot in the same
        step. Its old dispatcher learns that from its next `renew`.

        Args:
            epoch: the last epoch that the dispatcher knows plus one; 1 for a new call. The stored epoch never
                falls: the call gets the higher of `epoch` and the stored one plus one.
            metadata: stored with the call.
            excluded: ids of workers that must not get the call.
            over_capacity: a worker accepts the call below this multiple of its capacity.
            attach: a live worker that holds the call already, and is not excluded, keeps it.
            known_epoch: epoch at which Redis knew the call as this dispatcher's. The call is superseded if another
                dispatcher has a higher one. None: the connection is new, and therefore the newest.
        """
        reply = await self._connection.evaluate(
            self._pin,
            [
                uuid,
                dispatcher,
                epoch,
                CONNECTING,
                _metadata(uuid, metadata),
                _ms(lease_seconds),
                over_capacity,
                int(attach),
                "" if known_epoch is None else known_epoch,
                *excluded,
            ],
        )
        if reply == "superseded":
            return Superseded()
        if isinstance(reply, str):
            return NoCapacity(NoCapacityReason(reply))
        worker, address, new_epoch, pins, started_at_ms, attached, age_ms = reply
        return Pin(
            worker, address, int(new_epoch), int(pins), int(started_at_ms), bool(attached), max(0, int(age_ms))
        )

    async def unpin(self, uuid: str, *, epoch: int) -> bool:
        """Delete an ended call with its memory.

        The call must no longer be among those given to `renew`.

        Returns:
            False if the call was unknown, or has been pinned at a higher epoch: then nothing was changed.
        """
        # A renewal under way may carry this call, and would publish it again.
        async with self._renewing:
            pass
        return bool(await self._connection.evaluate(self._unpin, [uuid, epoch, ""]))

    async def unpin_waiting(self, uuid: str, *, worker: str, epoch: int) -> bool:
        """Delete a call that waited for a dispatcher at a worker, and has ended there.

        Returns:
            False if it does not wait there: a dispatcher has it, or another worker.
        """
        async with self._renewing:
            pass
        return bool(await self._connection.evaluate(self._unpin, [uuid, epoch, worker]))

    async def renew(
        self,
        dispatcher: str,
        calls: Sequence[CallLease],
        *,
        lease_seconds: float,
        said_versions: Mapping[str, int] = MappingProxyType({}),
    ) -> Renewal:
        """Write the records of a dispatcher's calls, whether Redis still knows them or not.

        A worker does the same for calls that wait for another dispatcher (`NOBODY`); a dispatcher of the call
        takes precedence. Calls that have been given to another worker are superseded.

        `said_versions` has the last written `MemoryUpdate.version` by uuid. Calls without an entry are not
        compared.

        Up to 50 calls take one round trip. A call is left unchanged if Redis has a higher epoch for it, or the
        same epoch with another dispatcher.
        """
        superseded: set[str] = set()
        missing: set[str] = set()
        async with self._renewing:
            for start in range(0, len(calls), _BATCH):
                args: list[str | int] = [dispatcher, _ms(lease_seconds)]
                for call in calls[start : start + _BATCH]:
                    started_at_ms = "" if call.started_at_ms is None else call.started_at_ms
                    args += (call.uuid, call.worker, call.epoch, call.state, started_at_ms, call.pins)
                    args += (_metadata(call.uuid, call.metadata), said_versions.get(call.uuid, ""), call.tenant)
                uuids, unknown = await self._bounded(self._renew, args=args)
                superseded.update(uuids)
                missing.update(unknown)
        return Renewal(frozenset(superseded), frozenset(missing))

    async def remember(self, said: Mapping[str, MemoryUpdate]) -> set[str]:
        """Write the memory of calls, from which another worker can restore them.

        All updates take one round trip. The caller must bound their size, because Redis does nothing else
        meanwhile.

        Args:
            said: by uuid.

        Returns:
            the calls that are not pinned, for which nothing was written.
        """
        args: list[str | int] = []
        for uuid, each in said.items():
            gone = [name for name, value in each.fields.items() if value is None]
            written = [
                part
                for name, value in each.fields.items()
                if value is not None
                for part in (name, without_known(value, uuid))
            ]
            args += (uuid, int(each.anew), each.version, len(gone), len(written) // 2, *gone, *written)
        return set(await self._bounded(self._remember, args=args))

    async def recall(self, uuid: str) -> dict[str, str]:
        """Return the memory of a call; empty if there is none."""
        fields: dict[str, str] = await self._bounded(self._redis.hgetall, f"{KEY_PREFIX}said:{uuid}")
        return {name: value for name, value in fields.items() if name not in _SAID_CHECKS}

    async def run(self, command: Callable[[Redis], Awaitable[T]]) -> T:
        """Run commands of another module of this room, within the bounds of this class."""
        result: T = await self._bounded(command, self._redis)
        return result

    async def claim(self, name: str, *, seconds: int) -> bool:
        """Claim a name for some time; return False if it is claimed already."""
        return bool(await self._bounded(self._redis.set, f"{KEY_PREFIX}claim:{name}", "1", nx=True, ex=seconds))

    async def redeem(self, name: str) -> bool:
        """Give a claim back; return False if there is none, because it has expired or was given back before."""
        return bool(await self._bounded(self._redis.delete, f"{KEY_PREFIX}claim:{name}"))

    async def keep_drafts(self, drafts: Mapping[str, str], *, seconds: int) -> None:
        """Keep drafts of the records of pinned calls, by uuid, for some time. The caller must bound their size."""
        written = [part for uuid, draft in drafts.items() for part in (uuid, without_known(draft, uuid))]
        await self._bounded(self._keep_drafts, args=[seconds, *written])

    async def draft(self, uuid: str) -> str | None:
        """Return the draft of a call's record; None: there is none."""
        draft: str | None = await self._bounded(self._redis.get, f"{KEY_PREFIX}draft:{uuid}")
        return draft

    async def drop_drafts(self, uuids: Collection[str]) -> None:
        """Drop the drafts of calls that have records now, and the claims to write these records."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for uuid in uuids:
                pipeline.delete(f"{KEY_PREFIX}draft:{uuid}", f"{KEY_PREFIX}claim:{RECORD_CLAIM}{uuid}")
            pipeline.zrem(f"{KEY_PREFIX}drafts", *uuids)
            pipeline.zrem(f"{KEY_PREFIX}orphans", *uuids)
            await self._bounded(pipeline.execute)

    async def calls_without_holder(self) -> dict[str, float]:
        """Return calls that have a draft of their record, and no holder; with the time of the draft in seconds."""
        found: list[str] = []
        while True:
            # Two values for each call.
            page = await self._bounded(self._orphans, args=[len(found) // 2, _ORPHANS])
            found += page
            if len(page) < 2 * _ORPHANS:
                break
        return {uuid: float(written_ms) / 1000 for uuid, written_ms in zip(found[::2], found[1::2], strict=True)}

    async def ask_to_hang_up(self, uuid: str) -> None:
        """Ask the dispatcher that holds a call to hang it up; each renewal looks for such requests."""
        await self._bounded(self._redis.set, f"{KEY_PREFIX}hang-up:{uuid}", "1", ex=_HANG_UP_SECONDS)

    async def asked_to_hang_up(self, uuids: Sequence[str]) -> set[str]:
        """Return the calls that must be hung up."""
        replies = await self._bounded(self._redis.mget, [f"{KEY_PREFIX}hang-up:{uuid}" for uuid in uuids])
        return {uuid for uuid, reply in zip(uuids, replies, strict=True) if reply is not None}

    async def calls(self, limit: int = 10_000) -> list[CallRecord]:
        """Return live calls, the oldest first, and no more than `limit`."""
        calls: list[CallRecord] = []
        end: tuple[int, str] | None = None
        while True:
            page = await self.calls_page(end, limit - len(calls))
            calls += page.calls
            end = page.end
            if end is None or len(calls) >= limit:
                return calls

    async def calls_page(
        self, after: tuple[int, str] | None, limit: int = _PAGE, *, newest_first: bool = False
    ) -> CallsPage:
        """Return up to 100 live calls behind a place. A page may be empty, and not the last.

        Args:
            after: the end of the page before; None: the first page.
            limit: maximum number of calls.
            newest_first: the newest first; otherwise the oldest.
        """
        args = [*(after or ("", "")), min(limit, _PAGE), int(newest_first), *CALL_FIELDS]
        rows, started_at_ms, uuid, total = await self._bounded(self._calls, args=args)
        calls = [record for row in rows if (record := self._reader.call(*row)) is not None]
        return CallsPage(calls, (int(float(started_at_ms)), uuid) if started_at_ms else None, int(total))

    async def call(self, uuid: str) -> CallRecord | None:
        """Return one call; None if it is not pinned."""
        return self._reader.call(uuid, await self._bounded(self._call, args=[uuid, *CALL_FIELDS]))

    def _script(self, name: str) -> AsyncScript:
        return self._connection.script(_LUA, name, KEY_PREFIX)


def _metadata(uuid: str, metadata: Mapping[str, str]) -> str:
    return without_known(json.dumps(dict(metadata)), uuid)


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))

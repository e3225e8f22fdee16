"""Placement: pins of calls in Redis.

Redis decides which worker takes a call, in one atomic step over all dispatchers. While Redis is away, and for
moves, the last table decides (`worker_table.py`). A worker still refuses calls over its capacity.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping

import structlog

from common.errors import RegistryBusy, RegistryUnavailable
from common.observe.problems import REDIS_AWAY, keys_refused
from common.store.leases import CallLease, Renewal, WorkerStatus
from common.store.memory import MemoryUpdate
from common.store.pins import NoCapacity, NoCapacityReason, Pin, Superseded
from common.store.registry import OVER_CAPACITY, Registry
from dispatcher.call.assignment import Assignment
from dispatcher.call.memory import CallMemory
from dispatcher.workers.worker_table import WorkerTable

log = structlog.get_logger()

# A call whose dispatcher died is out of Redis after this time, and has its slot freed.
CALL_LEASE_SECONDS = 15.0
# Maximum calls that ended while Redis was away and are removed when it is back. More of them expire.
MAX_ENDED = 10_000
# Of these, calls that are removed at once.
UNPINNED = 100
# Maximum calls and characters of one write, during which Redis does nothing else.
SAID_CALLS = 50
SAID_CHARS = 64 * 1024
# Minimum time between two questions to workers for their numbers of calls.
LOADS_SECONDS = 0.2
# A worker that has said that it has room is pinned, whatever Redis counts.
ANY_LOAD = 1e9
# Interval of the beats; a newer connection elsewhere is noticed as late as this.
RENEW_INTERVAL_SECONDS = 1.0
# Time after which the unchanged record of a call is written again, which repairs losses without a notice.
# Redis keeps records for a minute without that (RECORD_MS in _prelude.lua).
REWRITE_SECONDS = 25.0


class Placement:
    """Pins of one dispatcher's calls in Redis, and their memories."""

    def __init__(
        self,
        registry: Registry,
        dispatcher_id: str,
        *,
        own_calls: Callable[[str], int],
        has_link: Callable[[str], bool],
        redis_up: Callable[[float], None],
        ask_loads: Callable[[], Awaitable[Mapping[str, int]]] | None = None,
        reconnect_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make the placement of a dispatcher that knows no worker yet.

        Args:
            registry: Redis.
            dispatcher_id: of this process.
            own_calls: how many calls this dispatcher has on a worker.
            has_link: whether there is a link to a worker.
            redis_up: told after every exchange whether Redis answered.
            ask_loads: asks the workers how many calls they have; None: Redis alone is asked.
            reconnect_seconds: how long a call is kept that has no caller.
            clock: in seconds.
        """
        self._registry = registry
        self._clock = clock
        self._dispatcher_id = dispatcher_id
        self._table = WorkerTable(own_calls, has_link)
        self._redis_up = redis_up
        # A call whose dispatcher died must be found by the one to which its caller comes back.
        self._lease_seconds = max(CALL_LEASE_SECONDS, reconnect_seconds + CALL_LEASE_SECONDS / 3)
        self._up: bool | None = None
        # Version of the last write of each call's memory, which Redis may lose.
        self._written: dict[str, int] = {}
        # Records of calls as Redis has them, and when they are to be written again.
        self._published: dict[str, tuple[CallLease, float]] = {}
        # Calls, with their epochs, that were taken out of Redis since the last beat began: it does not write them.
        self._unpinned: dict[str, int] = {}
        # Calls of which Redis has said that it holds them for this dispatcher, which does not know them.
        self._not_held: dict[str, str] = {}
        # Run of the server at the last beat.
        self._run = ""
        self._versions = itertools.count(1)
        self._ask_loads = ask_loads
        # Answers of workers to the question for their number of calls, and when it was asked.
        self._loads: asyncio.Task[Mapping[str, int]] | None = None
        self._loads_seconds = 0.0
        # Calls that ended while Redis was away, with their epochs.
        self._ended: dict[str, int] = {}

    @property
    def redis_is_away(self) -> bool:
        """Whether Redis did not answer the last time."""
        return self._up is False

    def redis_has_answered(self, seconds: float) -> bool:
        """Return whether Redis has answered this dispatcher within the last seconds."""
        return self._registry.has_answered(seconds)

    @property
    def workers(self) -> tuple[WorkerStatus, ...]:
        """The last known table of live workers."""
        return self._table.workers

    @property
    def problems(self) -> list[str]:
        """Problems that leave the dispatcher ready, a line each."""
        away = [REDIS_AWAY] if self.redis_is_away else []
        return away + keys_refused(worker.problem for worker in self.workers)

    @property
    def newest_worker(self) -> int:
        """The number of the worker that came up last; numbers grow."""
        return self._table.newest_worker

    async def place(
        self,
        uuid: str,
        epoch: int,
        metadata: Mapping[str, str],
        excluded: frozenset[str],
        pins: int,
        *,
        recovers: bool = False,
        known_epoch: int | None = None,
    ) -> Assignment | NoCapacity | Superseded:
        """Pin a call.

        Args:
            uuid: the call.
            epoch: the last known one plus one.
            metadata: kept with the call.
            excluded: workers that have refused it or cannot be reached.
            pins: workers that have held the call, as far as this dispatcher knows.
            recovers: the call has lost its session: any worker but its present one may be filled above its
                capacity for it. Otherwise the worker that holds the call already, if it lives, keeps it.
            known_epoch: epoch at which Redis knew the call as this dispatcher's; None if it did not.
        """
        over_capacity = OVER_CAPACITY if recovers else 1.0
        if self._up is False:
            # The next renewal asks Redis again: a call does not wait for it.
            return self._from_table(epoch, excluded, pins, over_capacity)

        async def pinned(excluded: frozenset[str], over_capacity: float) -> Pin | NoCapacity | Superseded:
            return await self._registry.pin(
                uuid,
                dispatcher=self._dispatcher_id,
                epoch=epoch,
                metadata=metadata,
                lease_seconds=self._lease_seconds,
                excluded=excluded,
                over_capacity=over_capacity,
                attach=not recovers,
                known_epoch=known_epoch,
            )

        try:
            pin = await pinned(excluded, over_capacity)
            if pin == NoCapacity(NoCapacityReason.FULL):
                full = await self._full(excluded, over_capacity)
                if full is not None:
                    pin = await pinned(excluded | full, ANY_LOAD)
        except RegistryUnavailable as error:
            self._failed(error)
            return self._from_table(epoch, excluded, pins, over_capacity)
        self._note(True)
        if pin == NoCapacity(NoCapacityReason.NO_WORKERS) and self._table.linked():
            # It has come back empty, and workers that are there have not told it yet.
            return self._from_table(epoch, excluded, pins, over_capacity)
        if isinstance(pin, Pin):
            return Assignment(
                pin.worker,
                pin.epoch,
                pin.pins,
                pin.address,
                pin.started_at_ms,
                attach=pin.attached,
                age_seconds=pin.age_ms / 1000,
            )
        return pin

    async def _full(self, excluded: frozenset[str], over_capacity: float) -> frozenset[str] | None:
        """Ask the workers for their numbers of calls, and return the full ones; None: all are full.

        All workers are full in Redis, but Redis may still count calls that have ended. It counts calls of a dead
        dispatcher until their leases expire. A worker with room by its own count may get the call, or refuse it.
        """
        if self._ask_loads is None:
            return None
        now_seconds = self._clock()
        if self._loads is None or (self._loads.done() and now_seconds - self._loads_seconds >= LOADS_SECONDS):
            self._loads_seconds = now_seconds
            self._loads = asyncio.ensure_future(self._ask_loads())
        # Calls that ask together share one answer: the end of one of them is not the end of it.
        loads = await asyncio.shield(self._loads)
        known = {worker.id: worker.capacity * over_capacity for worker in self.workers}
        full = frozenset(known) - {name for name, calls in loads.items() if calls < known.get(name, 0)}
        return None if known.keys() <= full | excluded else full

    def choose(
        self, epoch: int, excluded: frozenset[str], pins: int, *, newer_than: int | None = None
    ) -> Assignment | NoCapacity:
        """Choose a worker for a call that still has one: nothing is pinned, as the call may never get there.

        Args:
            epoch: the last known one plus one.
            excluded: workers that it must not be.
            pins: workers that have held the call.
            newer_than: as in `WorkerTable.choose`.
        """
        return self._from_table(
            epoch, excluded, pins, OVER_CAPACITY, newer_than, trusts_table=not self.redis_is_away
        )

    async def recall(self, uuid: str) -> CallMemory | None:
        """Return the copy of a call's memory in Redis; None: no copy exists, or Redis is away."""
        if self._up is False:
            return None
        try:
            fields = await self._registry.recall(uuid)
        except RegistryUnavailable as error:
            self._failed(error)
            return None
        return CallMemory.from_stored(fields)

    async def remember(self, memories: Mapping[str, CallMemory]) -> None:
        """Bring the copies in Redis up to date; while Redis is away, changes wait."""
        said: dict[str, MemoryUpdate] = {}
        chars = 0
        for uuid, memory in memories.items():
            if not self._up:
                return
            changes = memory.take_changes()
            if changes is None:
                continue
            said[uuid] = MemoryUpdate(*changes, version=next(self._versions))
            chars += said[uuid].chars
            if len(said) >= SAID_CALLS or chars >= SAID_CHARS:
                await self._write(said, memories)
                said, chars = {}, 0
        if said:
            await self._write(said, memories)

    async def _write(self, said: Mapping[str, MemoryUpdate], memories: Mapping[str, CallMemory]) -> None:
        try:
            unknown: Iterable[str] = await self._registry.remember(said)
        except RegistryUnavailable as error:
            self._failed(error)
            unknown = said
        self._written |= {uuid: each.version for uuid, each in said.items()}
        for uuid in unknown:
            del self._written[uuid]
            memories[uuid].copy_lost()

    async def unpin(self, uuid: str, epoch: int) -> None:
        """Take a call out of Redis, or do so when Redis is back."""
        self._published.pop(uuid, None)
        self._unpinned[uuid] = epoch
        try:
            await self._registry.unpin(uuid, epoch=epoch)
        except RegistryUnavailable as error:
            self._failed(error)
            self._end_later({uuid: epoch})

    async def renew(self, held: list[CallLease]) -> Renewal:
        """Extend the lease of this dispatcher, publish changed calls, and take the table of workers.

        Args:
            held: all calls of this dispatcher.
        """
        own_before = self._table.own_calls()
        self._unpinned.clear()
        leases = {lease.uuid: lease for lease in held}
        self._written = {uuid: version for uuid, version in self._written.items() if uuid in leases}
        self._published = {uuid: known for uuid, known in self._published.items() if uuid in leases}
        try:
            checks = await self._beat(leases.keys())
            now = self._clock()
            changed = [
                lease
                for lease in held
                if lease.uuid not in self._unpinned
                and (
                    (known := self._published.get(lease.uuid)) is None
                    or known[0] != lease
                    or known[1] <= now
                    or lease.uuid in checks
                )
            ]
            renewal = await self._write_records(changed)
        except RegistryUnavailable as error:
            self._failed(error)
            return Renewal(frozenset())
        self._note(True)
        if self._ended:
            await self._unpin_ended(leases.keys())
        self._table.take(self._clock(), own_before)
        return renewal

    async def publish(self, changed: list[CallLease]) -> Renewal:
        """Publish some calls of this dispatcher, without the others."""
        try:
            return await self._write_records(changed)
        except RegistryUnavailable as error:
            self._failed(error)
            return Renewal(frozenset())

    async def _beat(self, held: Collection[str]) -> Collection[str]:
        """Beat, and read the changes of the table; return the calls whose records have to be looked at."""
        beat = await self._registry.beat(
            self._dispatcher_id,
            lease_seconds=self._lease_seconds,
            version=self._table.version(self._clock()),
            not_held=self._not_held,
        )
        self._not_held = {uuid: epoch for uuid, epoch in beat.checks.items() if uuid not in held}
        is_complete = False
        if not beat.is_known or beat.run != self._run:
            # Redis was restarted or replaced, or the lease had ended: it may lack calls and workers.
            self._doubt()
            self._run = beat.run
        else:
            self._table.read(beat.changes, self._clock())
            is_complete = not beat.changes.has_more
        if not is_complete:
            await self._read_table()
        return beat.checks

    async def _read_table(self) -> None:
        """Read all changes of the table; each step is short, because this process also carries audio."""
        while True:
            changes = await self._registry.table(self._table.version(self._clock()))
            self._table.read(changes, self._clock())
            if not changes.has_more:
                return

    async def _write_records(self, leases: list[CallLease]) -> Renewal:
        """Write the records of calls, and note that Redis has them.

        The registry holds back the end of a call that is being written. A write that failed may still reach Redis,
        after that end: so the call is ended again when Redis is back.
        """
        try:
            renewal = await self._registry.renew(
                self._dispatcher_id, leases, lease_seconds=self._lease_seconds, said_versions=self._written
            )
        except RegistryUnavailable:
            self._end_later(self._unpinned)
            raise
        now = self._clock()
        for lease in leases:
            if lease.uuid in renewal.superseded or lease.uuid in self._unpinned:
                self._published.pop(lease.uuid, None)
            else:
                self._published[lease.uuid] = (lease, now + random.uniform(0.6, 1.0) * REWRITE_SECONDS)
        return renewal

    def _doubt(self) -> None:
        """Write all calls again, and read the whole table again, at the next beat."""
        self._published.clear()
        self._table.doubt()

    async def look_for_workers(self) -> None:
        """Take the table of workers alone, for a dispatcher that waits for its first link."""
        try:
            await self._read_table()
        except RegistryUnavailable as error:
            self._failed(error)
            return
        self._note(True)
        self._table.take(self._clock())

    def _end_later(self, ended: Mapping[str, int]) -> None:
        if len(self._ended) + len(ended) <= MAX_ENDED:
            self._ended |= ended

    async def leave(self) -> None:
        """End the lease of this dispatcher, which ends."""
        if not self.redis_is_away:
            with contextlib.suppress(RegistryUnavailable):
                await self._registry.remove_dispatcher(self._dispatcher_id)

    async def _unpin_ended(self, held: Collection[str]) -> None:
        ended = [(uuid, epoch) for uuid, epoch in self._ended.items() if uuid not in held]
        self._ended.clear()
        for start in range(0, len(ended), UNPINNED):
            # They share round trips; the next beat is due soon.
            await asyncio.gather(*(self.unpin(*call) for call in ended[start : start + UNPINNED]))

    def _from_table(
        self,
        epoch: int,
        excluded: frozenset[str],
        pins: int,
        over_capacity: float,
        newer_than: int | None = None,
        *,
        trusts_table: bool = False,
    ) -> Assignment | NoCapacity:
        """Give the call to a worker of the last table; arguments as in `choose` and `WorkerTable.choose`."""
        left = self._table.left(self._clock()) if self.redis_is_away else []
        chosen = self._table.choose(
            excluded, over_capacity, newer_than=newer_than, trusts_table=trusts_table, left=left
        )
        if isinstance(chosen, NoCapacityReason):
            return NoCapacity(chosen)
        return Assignment(chosen.id, epoch, pins + 1, chosen.address)

    def _failed(self, error: RegistryUnavailable) -> None:
        """Note that a command failed; a Redis that is only busy is not away."""
        if not isinstance(error, RegistryBusy):
            self._note(False, str(error))

    def _note(self, up: bool, reason: str = "") -> None:
        self._redis_up(up)
        if not up:
            # The command may have been executed all the same, and Redis may be another one when it is back.
            self._doubt()
        if up is not self._up:
            if not up:
                log.error("redis is away", reason=reason, effect="calls go on, placed from the last known table")
            elif self._up is not None:
                log.info("redis is back")
            self._up = up

"""The I/O of finding a worker for a call: pins in Redis, questions to workers, and links to them."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol as Interface

import structlog

from common.errors import LinkUnavailable
from common.store.pins import NoCapacity, Superseded
from dispatcher.call.actions import Place, Purpose
from dispatcher.call.assignment import Assignment
from dispatcher.call.call import Call
from dispatcher.call.memory import CallMemory
from dispatcher.call.states import State
from dispatcher.workers.links import LinkPool, WorkerLink
from dispatcher.workers.placement import Placement
from dispatcher.workers.placement_search import NotPlaced, PlacementSearch

# Wait for Redis before the workers are asked for the call's session, in case Redis is away.
REDIS_IS_SLOW_SECONDS = 0.05


class FinderOwner(Interface):
    """The shell of a call, which gets the result of a search."""

    @property
    def is_published(self) -> bool:
        """Whether Redis knows the call as this dispatcher's."""

    def placed(self, assignment: Assignment, worker_link: WorkerLink) -> None:
        """Give the call to a worker."""

    def not_placed(self, outcome: NotPlaced) -> None:
        """Note that no worker can take the call now."""

    def superseded(self) -> None:
        """End the call: another dispatcher has it."""

    def fail(self, reason: str) -> None:
        """Fail the call."""


class WorkerFinder:
    """Searches for workers of one call."""

    def __init__(self, owner: FinderOwner, call: Call, placement: Placement, links: LinkPool) -> None:
        """Make a finder that looks for nothing yet."""
        self._owner = owner
        self._call = call
        self._placement = placement
        self._links = links
        self._log = structlog.get_logger()
        self._tasks: set[asyncio.Task[None]] = set()
        # Memory in Redis of a call that another dispatcher had: Redis may lose it before the worker answers.
        self._copy: CallMemory | None = None
        # The worker that was the newest when the call had to leave one first.
        self._moved_after: int | None = None

    def find(self, wanted: Place) -> None:
        """Look for a worker; the owner hears of it."""
        self._log = structlog.get_logger().bind(uuid=self._call.uuid)
        task = asyncio.create_task(self._find(wanted), name=f"place {self._call.uuid}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def answered(self) -> None:
        """Forget the copy of the memory, because the worker has answered."""
        self._copy = None

    async def settled(self) -> None:
        """Wait until every search has ended."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _find(self, wanted: Place) -> None:
        try:
            known = self._links.up(wanted.same_worker)
            if known is not None:
                # It has the call's slot already. Redis hears of the new epoch by the next renewal.
                self._placed(
                    wanted, Assignment(wanted.same_worker, wanted.epoch, self._call.assignments.pins), known
                )
            else:
                await self._search(wanted)
        except Exception:
            self._log.exception("worker search failed")
            self._owner.fail("internal error")

    async def _search(self, wanted: Place) -> None:
        """Pin, and open a channel; workers that cannot be reached are left out and the next is asked."""
        call, placement, purpose = self._call, self._placement, wanted.purpose
        search = PlacementSearch(wanted, call.assignments.pins)
        # Whether a caller was here before, at another dispatcher, the workers know where Redis does not.
        returns = call.memory.is_empty and (purpose is Purpose.RECOVER or placement.redis_is_away)
        if returns and await self._found_holder(wanted):
            return
        while call.wants(purpose):
            found = await self._choose(wanted, search, returns)
            if found is None:
                return
            if isinstance(found, Superseded):
                # The caller has come back at another dispatcher.
                if call.wants(purpose):
                    self._owner.superseded()
                return
            if isinstance(found, NoCapacity):
                if purpose is Purpose.BEGIN and await self._recalled():
                    continue
                self._not_placed(search, found)
                return
            if not returns and self._lost_by_redis(wanted, found):
                returns = True
                if await self._found_holder(wanted, found.epoch + 1):
                    return
            worker_link = await self._link_to(found.worker_id, found.address) if call.wants(purpose) else None
            if worker_link is not None and not found.attach and (found.pins > 1 or self._copy is not None):
                await self._recalled()
            call.assignments.saw_epoch(found.epoch)
            if not call.wants(purpose):
                # The caller has hung up meanwhile, say. A call that ended is not to be left in Redis.
                if call.state is State.ENDED and purpose is not Purpose.MOVE:
                    await placement.unpin(call.uuid, found.epoch)
                return
            if worker_link is not None and worker_link.is_open:
                self._placed(wanted, found, worker_link)
                if found.attach:
                    await self._keep_copy()
                return
            if search.unreachable(found):
                await placement.unpin(call.uuid, found.epoch)

    def _lost_by_redis(self, wanted: Place, found: Assignment) -> bool:
        """Tell whether Redis does not know the worker that had the call: it died, or Redis came back empty."""
        has_moved = found.pins > 1 and not found.attach
        return wanted.purpose is Purpose.BEGIN and has_moved and self._call.memory.is_empty

    async def _choose(
        self, wanted: Place, search: PlacementSearch, returns: bool
    ) -> Assignment | NoCapacity | Superseded | None:
        """Return the answer of placement; None: a worker that has a session of the call was found.

        Args:
            wanted: the requested assignment.
            search: progress of the search.
            returns: the workers were already asked for the call's session.
        """
        call, placement = self._call, self._placement
        if wanted.purpose is Purpose.MOVE:
            if self._moved_after is None:
                self._moved_after = placement.newest_worker
            return placement.choose(search.epoch, search.excluded, search.pins, newer_than=self._moved_after)
        # A call that is older than this dispatcher has lost its session, too.
        recovers = wanted.purpose is Purpose.RECOVER or call.memory.is_recalled
        pinning = asyncio.ensure_future(
            placement.place(
                call.uuid,
                search.epoch,
                call.identity.metadata,
                search.excluded,
                search.pins,
                recovers=recovers,
                known_epoch=call.assignments.held_epoch if self._owner.is_published else None,
            )
        )
        done, _ = await asyncio.wait({pinning}, timeout=REDIS_IS_SLOW_SECONDS)
        while not done and placement.redis_has_answered(REDIS_IS_SLOW_SECONDS):
            # Many pins wait for their turn: no reason to ask all workers for each of them.
            done, _ = await asyncio.wait({pinning}, timeout=REDIS_IS_SLOW_SECONDS)
        # It is slow, or was found to be away just now.
        unknown = not done or (placement.redis_is_away and not returns)
        if unknown and wanted.purpose is Purpose.BEGIN and await self._found_holder(wanted):
            # What Redis may say yet is older than this.
            return None
        return await pinning

    async def _recalled(self) -> bool:
        """Return whether the call is older than this dispatcher: its dispatcher is gone, and its worker too."""
        if not self._call.memory.is_empty:
            return False
        memory = await self._placement.recall(self._call.uuid) or self._copy
        if memory is None:
            return False
        self._call.restored(memory, time.monotonic())
        return True

    async def _keep_copy(self) -> None:
        """Keep a copy of the memory from Redis until the worker continues, because the worker may hang."""
        copy = await self._placement.recall(self._call.uuid)
        if self._call.state is State.OPENING:
            self._copy = copy

    async def _found_holder(self, wanted: Place, least_epoch: int = 0) -> bool:
        """Return whether a worker has a session of the call, and continue there."""
        holder = await self._links.holder(self._call.uuid)
        if holder is None:
            return False
        worker_id, address, held_epoch = holder
        known = await self._link_to(worker_id, address)
        if known is None or not self._call.wants(wanted.purpose):
            return False
        epoch = max(wanted.epoch, held_epoch + 1, least_epoch)
        pins = max(1, self._call.assignments.pins)
        self._placed(wanted, Assignment(worker_id, epoch, pins, address, attach=True), known)
        return True

    async def _link_to(self, worker_id: str, address: str) -> WorkerLink | None:
        try:
            return await self._links.get(worker_id, address)
        except LinkUnavailable as error:
            self._log.warning("worker unreachable", worker=worker_id, reason=str(error))
            return None

    def _placed(self, wanted: Place, assignment: Assignment, worker_link: WorkerLink) -> None:
        if self._call.wants(wanted.purpose):
            self._owner.placed(assignment, worker_link)

    def _not_placed(self, search: PlacementSearch, found: NoCapacity) -> None:
        if self._call.wants(search.purpose):
            outcome = search.failed(
                found.reason,
                refused_for_capacity=self._call.refused_for_capacity,
                redis_is_away=self._placement.redis_is_away,
            )
            self._owner.not_placed(outcome)

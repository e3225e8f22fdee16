"""The last known table of workers, and the choice of one of them, Sans-I/O.

Redis chooses for calls that begin or have lost their session. While Redis is away, and for calls that move, the
choice is made here: from the calls of all dispatchers in the last table, and this dispatcher's changes since.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterable, Sequence

from common.store.leases import TableChanges, TableVersion, WorkerState, WorkerStatus, release_order
from common.store.pins import NoCapacityReason

# Maximum time since a worker left the table, to be asked while Redis is away and no other worker is known.
LEFT_SECONDS = 120.0
MAX_LEFT = 100
# After this time the whole table is read again, which repairs whatever went wrong with changes.
REFRESH_SECONDS = 30.0


class WorkerTable:
    """Workers that one dispatcher knows.

    Attributes:
        workers: workers of the last table, and workers with a link.
        newest_worker: number of the worker that started last; numbers grow.
    """

    def __init__(self, own_calls: Callable[[str], int], has_link: Callable[[str], bool]) -> None:
        """Make an empty table.

        Args:
            own_calls: returns the number of calls that this dispatcher has on a worker.
            has_link: returns whether there is a link to a worker.
        """
        self.workers: tuple[WorkerStatus, ...] = ()
        self.newest_worker = 0
        self._own_calls = own_calls
        self._has_link = has_link
        # Workers that Redis has; and the versions of their records and loads.
        self._listed: dict[str, WorkerStatus] = {}
        self._version = TableVersion()
        # Workers that have been read since the whole table was asked for; None: only changes are asked for.
        self._read: set[str] | None = set()
        self._refreshed_seconds = float("-inf")
        # This dispatcher's calls by worker, as the last table counts them.
        self._own_before: dict[str, int] = {}
        # In the order in which the workers came up: which of two is the younger.
        self._numbers: dict[str, int] = {}
        # Every worker that was ever in the table, as it was then, and when; the latest of them.
        self._seen: dict[str, tuple[WorkerStatus, float]] = {}

    def own_calls(self) -> dict[str, int]:
        """Return this dispatcher's calls by worker, for `take` of a table that is about to be asked for."""
        return {worker.id: self._own_calls(worker.id) for worker in self.workers}

    def version(self, now_seconds: float) -> TableVersion:
        """Return the version whose changes are to be asked for; the first one if the whole table is due."""
        if self._read is None and now_seconds - self._refreshed_seconds >= REFRESH_SECONDS:
            self.doubt()
        return self._version

    def doubt(self) -> None:
        """Ask for the whole table again: this is another Redis, or changes were missed."""
        self._version, self._read = TableVersion(), set()

    def read(self, changes: TableChanges, now_seconds: float) -> None:
        """Read some changes; the table is the former one until `take`."""
        self._version = changes.version
        if self._read is not None:
            self._read.update(worker.id for worker in changes.workers)
        for worker in changes.workers:
            self._listed[worker.id] = worker
        for worker_id in changes.gone:
            self._listed.pop(worker_id, None)
        for worker_id, calls in changes.loads.items():
            known = self._listed.get(worker_id)
            if known is not None and known.calls != calls:
                self._listed[worker_id] = dataclasses.replace(known, calls=calls)
        if self._read is not None and not changes.has_more:
            for worker_id in self._listed.keys() - self._read:
                del self._listed[worker_id]
            self._read, self._refreshed_seconds = None, now_seconds

    def take(self, now_seconds: float, own_before: dict[str, int] | None = None) -> None:
        """Take the changes that were read; workers that there is a link to stay.

        Args:
            now_seconds: when.
            own_before: this dispatcher's calls when the changes were asked for; None: as before.
        """
        if own_before is not None:
            self._own_before = own_before
        linked = [worker for worker in self.linked() if worker.id not in self._listed]
        listed = [self._listed[worker_id] for worker_id in sorted(self._listed)]
        self.workers = (*listed, *linked)
        self._number_workers()
        self._see(listed, now_seconds)

    def linked(self) -> list[WorkerStatus]:
        """Return the workers that there is a link to, whatever Redis knows of them."""
        return [worker for worker in self.workers if self._has_link(worker.id)]

    def left(self, now_seconds: float) -> list[WorkerStatus]:
        """Return workers that were in the table lately, such as one that hung and is not registered yet."""
        since_seconds = now_seconds - LEFT_SECONDS
        return [worker for worker, seen_seconds in self._seen.values() if seen_seconds >= since_seconds]

    def choose(
        self,
        excluded: frozenset[str],
        over_capacity: float,
        *,
        newer_than: int | None = None,
        trusts_table: bool = False,
        left: Sequence[WorkerStatus] = (),
    ) -> WorkerStatus | NoCapacityReason:
        """Choose a worker by the order of the script in Redis: room, then the newest release, then the least load.

        Args:
            excluded: workers that it must not be.
            over_capacity: as in `Registry.pin`.
            newer_than: the `newest_worker` of when the call had to move first. A worker that came up since is
                preferred while it has room: where all workers are restarted in turn, the others have that before
                them.
            trusts_table: a worker that is full by the table is not asked. While Redis is away the table grows old:
                such a worker is asked last, and refuses calls over its capacity.
            left: workers that are asked if no other worker is known.
        """

        def usable(workers: Iterable[WorkerStatus]) -> list[WorkerStatus]:
            return [w for w in workers if w.state is WorkerState.READY and w.id not in excluded]

        # There is a link to every worker that can be reached, if it has been known for a moment.
        ready = usable(self.linked()) or usable(self.workers) or usable(left)
        bounded_by = self._load if trusts_table else self._own_calls_on
        free = [w for w in ready if bounded_by(w) < w.capacity * over_capacity]
        if not free:
            return NoCapacityReason.FULL if ready else NoCapacityReason.NO_WORKERS

        def rank(w: WorkerStatus) -> tuple[bool, int, bool, float, float]:
            is_younger = newer_than is not None and self._numbers.get(w.id, 0) > newer_than
            load = self._load(w)
            # All dispatchers have the same table: equals take turns by chance.
            return (
                load >= w.capacity,
                -release_order(w.release),
                not is_younger,
                load / w.capacity,
                random.random(),
            )

        return min(free, key=rank)

    def _number_workers(self) -> None:
        came = [worker.id for worker in self.workers if worker.id not in self._numbers]
        live = {worker.id for worker in self.workers}
        self._numbers = {name: number for name, number in self._numbers.items() if name in live}
        for name in came:
            self.newest_worker += 1
            self._numbers[name] = self.newest_worker

    def _see(self, workers: Iterable[WorkerStatus], now_seconds: float) -> None:
        self._seen |= {worker.id: (worker, now_seconds) for worker in workers}
        if len(self._seen) > len(self.workers) + MAX_LEFT:
            latest = sorted(self._seen.items(), key=lambda item: -item[1][1])[: len(self.workers) + MAX_LEFT]
            self._seen = dict(latest)

    def _own_calls_on(self, worker: WorkerStatus) -> int:
        return self._own_calls(worker.id)

    def _load(self, worker: WorkerStatus) -> int:
        """Return the calls of all dispatchers in the last table, and this dispatcher's changes since."""
        own = self._own_calls(worker.id)
        return max(own, worker.calls + own - self._own_before.get(worker.id, own))

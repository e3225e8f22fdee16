"""A simulation of many calls in cells, each with a Redis, dispatchers and workers of its own.

The balancer gives a call to a cell by a hash of its uuid. Calls and their cells are simulated. One cell, the
fullest without one of the others, is measured with a real Redis. The directory of the calls API merges the lists
of all cells.
"""

from __future__ import annotations

import bisect
import hashlib
import heapq
import itertools
import random
import time
import uuid as uuids
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import orjson

from tests.bench import coordination

DISPATCHERS = 8
WORKERS = 40
WORKER_CALLS = 200
# Points of a cell on the ring of the consistent hash.
POINTS = 160
PAGE = 1000
# Rows that are asked of a cell at once, and merged at once. Cells that run out are asked again.
STEP = 100


@dataclass(frozen=True, slots=True)
class Spread:
    """How calls spread over cells.

    Attributes:
        fullest: calls of the fullest cell, relative to the mean.
        after_loss: the same, when a cell is lost.
        moved: share of the calls of other cells that change their cell then, although it lives.
    """

    fullest: float
    after_loss: float
    moved: float


@dataclass(slots=True)
class Result:
    """The result of a simulation."""

    calls: int
    cells: int
    modulo: Spread
    ring: Spread
    cell: coordination.Figures
    merged_ms: float

    def table(self) -> str:
        """Return the figures for people."""
        room = WORKERS * WORKER_CALLS
        lines = [
            f"cells: {self.calls} calls in {self.cells} cells of {DISPATCHERS} dispatchers and {WORKERS} workers,"
            f" {room} calls at most",
        ]
        for name, spread in (("modulo", self.modulo), ("consistent", self.ring)):
            lines.append(
                f"  {name:<11} fullest cell {spread.fullest:.3f} of the mean, {spread.after_loss:.3f} without one"
                f" cell; then {spread.moved:.1%} of the other calls change their cell"
            )
        mean = self.calls / self.cells
        lines += [
            f"  fullest cell {mean * self.ring.fullest:.0f} calls,"
            f" {mean * self.ring.after_loss:.0f} without one of the others",
            f"  directory   first {PAGE} calls of {self.cells} cells: longest step {self.merged_ms:.1f} ms of CPU",
            self.cell.table(),
        ]
        return "\n".join(lines)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def by_modulo(cells: Sequence[int]) -> Callable[[str], int]:
    """Return the hash of a balancer that divides by the number of cells."""
    return lambda uuid: cells[_hash(uuid) % len(cells)]


def by_ring(cells: Sequence[int]) -> Callable[[str], int]:
    """Return a consistent hash: a cell's calls are those before its points on a ring."""
    ring = sorted((_hash(f"cell {cell} point {point}"), cell) for cell in cells for point in range(POINTS))
    points = [point for point, _ in ring]
    return lambda uuid: ring[bisect.bisect(points, _hash(uuid)) % len(ring)][1]


def spread(calls: Sequence[str], cells: int, balancer: Callable[[Sequence[int]], Callable[[str], int]]) -> Spread:
    """Return how a balancer spreads calls, before and after the loss of a cell."""
    before, after = balancer(range(cells)), balancer(range(1, cells))
    places = {uuid: before(uuid) for uuid in calls}
    moved = {uuid: after(uuid) for uuid in calls}
    mean = len(calls) / cells
    others = [uuid for uuid, cell in places.items() if cell != 0]
    return Spread(
        max(Counter(places.values()).values()) / mean,
        max(Counter(moved.values()).values()) / mean,
        sum(moved[uuid] != places[uuid] for uuid in others) / len(others),
    )


def merged(pages: Sequence[bytes]) -> tuple[list[bytes], float]:
    """Merge the first pages of cells by start and uuid, in steps; return the rows, and the longest step in ms."""
    took = []
    lists = []
    for page in pages:
        began = time.thread_time()
        lists.append([((row["started_at"], row["uuid"]), row) for row in orjson.loads(page)])
        took.append(time.thread_time() - began)
    rows = heapq.merge(*lists, key=lambda each: each[0])
    parts = []
    for _ in range(0, PAGE, STEP):
        began = time.thread_time()
        parts.append(orjson.dumps([row for _, row in itertools.islice(rows, STEP)]))
        took.append(time.thread_time() - began)
    return parts, max(took) * 1000


def _pages(cells: int, rows: int) -> list[bytes]:
    """Return the first page of each cell, as the calls API answers."""

    def row(number: int) -> dict[str, object]:
        return {
            "uuid": f"call-{number}", "tenant": None, "worker": f"worker-{number % WORKERS}",
            "dispatcher": f"dispatcher-{number % DISPATCHERS}", "state": "live",
            "started_at": f"2026-12-01T00:00:00.{number:06}+00:00", "seconds": 12.345, "pins": 1,
            "metadata": coordination.METADATA,
        }  # fmt: skip

    return [orjson.dumps([row(number * cells + cell) for number in range(rows)]) for cell in range(cells)]


async def measure(calls: int = 100_000, cells: int = 20, size: coordination.Size | None = None) -> Result:
    """Simulate calls in cells, and measure the fullest one."""
    chance = random.Random(1)
    ids = [str(uuids.UUID(int=chance.getrandbits(128), version=4)) for _ in range(calls)]
    modulo, ring = spread(ids, cells, by_modulo), spread(ids, cells, by_ring)
    fullest = round(calls / cells * ring.after_loss)
    size = replace(size or coordination.Size(), dispatchers=DISPATCHERS, workers=WORKERS, calls=fullest)
    _, merged_ms = merged(_pages(cells, STEP))
    return Result(calls, cells, modulo, ring, await coordination.measure(size), merged_ms)

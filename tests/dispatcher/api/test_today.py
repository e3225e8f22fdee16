"""The counts of today: since midnight (UTC), or since the process began to count."""

from __future__ import annotations

import asyncio

from common.observe import metrics
from common.observe.call_outcome import CallOutcome, EndReason
from common.observe.refusals import Refusal
from dispatcher.api import today
from dispatcher.api.today import LATE_SECONDS, Today, read_totals

NOON = 1_800_014_400.0  # 2027-01-15T12:00:00Z
MIDNIGHT = NOON + 43_200


class World:
    """Totals and a clock that a test sets."""

    def __init__(self) -> None:
        self.now = NOON
        self.totals: dict[str, float] = {}
        # Each answer reads anew.
        self.today = Today(lambda: dict(self.totals), lambda: self.now)

    async def counts(self) -> tuple[str, dict[str, int], int]:
        self.today._read_seconds = float("-inf")
        answer = await self.today.as_json()
        return answer["since"], answer["calls"], answer["connections_refused"]


async def test_it_counts_from_the_start_of_the_process() -> None:
    world = World()
    world.totals = {"completed": 100, "failed": 3, "rejected": 2, "connections_refused": 7}
    nothing = {"completed": 0, "failed": 0, "rejected": 0}
    assert await world.counts() == ("2027-01-15T12:00:00Z", nothing, 0)
    world.now += 60
    world.totals = {"completed": 104, "failed": 4, "rejected": 2, "connections_refused": 9}
    assert await world.counts() == ("2027-01-15T12:00:00Z", nothing | {"completed": 4, "failed": 1}, 2)


async def test_at_midnight_it_begins_anew() -> None:
    world = World()
    await world.today.look()
    world.totals = {"completed": 4, "failed": 1}
    world.now = MIDNIGHT + 1
    await world.today.look()
    world.totals = {"completed": 5, "failed": 1}
    since, calls, _ = await world.counts()
    assert (since, calls["completed"], calls["failed"]) == ("2027-01-16T00:00:00Z", 1, 0)


async def test_a_process_that_slept_over_midnight_says_since_when() -> None:
    world = World()
    await world.today.look()
    world.now = MIDNIGHT + LATE_SECONDS + 60
    assert (await world.counts())[0] == "2027-01-16T00:03:00Z"


async def test_many_questions_read_the_metrics_once() -> None:
    reads = []
    counting = Today(lambda: reads.append(1) or {}, lambda: NOON)  # type: ignore[func-returns-value]
    await asyncio.gather(*(counting.as_json() for _ in range(20)))
    assert len(reads) == 1


async def test_it_reads_the_metrics_of_the_service() -> None:
    before = read_totals()
    measured = metrics.dispatcher()
    measured.call_ended(CallOutcome.FAILED, EndReason.UPSTREAM, "")
    measured.call_ended(CallOutcome.FAILED, EndReason.NO_ANSWER, "acme")
    measured.connections_refused[Refusal.TOKEN].inc()
    after = read_totals()
    assert after["failed"] - before.get("failed", 0) == 2
    assert after["connections_refused"] - before["connections_refused"] == 1
    assert set(today._NAMES) == {*CallOutcome, "connections_refused"}

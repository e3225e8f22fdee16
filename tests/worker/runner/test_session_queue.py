from __future__ import annotations

import asyncio
import time

import pytest

from common.link import wire
from common.observe import metrics
from simulator.realtime.server import RealtimeSimulator
from tests.helpers import eventually
from tests.worker.call_desk import KEY, PATIENCE_SECONDS, QUICK, call_to
from worker.realtime.session_openings import MOST_CALLER_SECONDS, Urgency
from worker.runner import session_queue
from worker.runner.session_queue import Place, QueueTable, SessionQueue

# No token comes while a test runs, apart from the saved one.
SLOW = 0.001
GIVE_UP_SECONDS = 1000.0
SERIES = "avr_sts_upstream_sessions_waiting "


def queue_at(per_second: float) -> SessionQueue:
    return SessionQueue(per_second, metrics.worker().sessions_waiting)


def shown() -> float:
    """Return how many openings wait, by the metric."""
    (line,) = [each for each in metrics.render()[0].decode().splitlines() if each.startswith(SERIES)]
    return float(line.split()[-1])


def join(
    queue: SessionQueue, urgency: Urgency = Urgency.CALLER, *, give_up_seconds: float = GIVE_UP_SECONDS
) -> Place:
    now_seconds = time.monotonic()
    return queue.join(now_seconds, now_seconds + give_up_seconds, urgency)


async def wait_for(queue: SessionQueue, *waiting: Place) -> None:
    """Wait until all these may begin."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.gather(*(queue.wait(place) for place in waiting))


async def test_an_opening_with_a_saved_token_begins_at_once() -> None:
    queue = queue_at(SLOW)
    place = join(queue)
    assert place.begins.done()
    await queue.wait(place)


async def test_openings_begin_at_the_rate() -> None:
    queue = queue_at(100.0)
    began_seconds = time.monotonic()
    await wait_for(queue, *(join(queue) for _ in range(30)))
    # 10 tokens were saved; the others came in 0.2 s.
    assert time.monotonic() - began_seconds >= 0.19
    assert queue.openings.waiting == 0


async def test_a_cancelled_wait_leaves_the_queue() -> None:
    queue = queue_at(SLOW)
    before = shown()
    join(queue)
    gone, other = join(queue), join(queue)
    assert shown() == before + 2
    waiting = asyncio.create_task(queue.wait(gone))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert queue.openings.waiting == 1
    assert shown() == before + 1
    queue.give_back()
    await wait_for(queue, other)
    assert shown() == before


async def test_a_token_whose_wait_is_cancelled_goes_to_the_next() -> None:
    queue = queue_at(SLOW)
    join(queue)
    waiting = asyncio.create_task(queue.wait(join(queue)))
    other = join(queue)
    await asyncio.sleep(0)
    queue.give_back()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await wait_for(queue, other)


async def test_an_opening_begins_at_its_bound() -> None:
    queue = queue_at(SLOW)
    join(queue)
    await wait_for(queue, join(queue, give_up_seconds=0.1))


async def test_each_key_has_a_queue_of_its_own() -> None:
    table = QueueTable(SLOW, metrics.worker().sessions_waiting)
    join(table.of("wss://one", "a"))
    assert not join(table.of("wss://one", "a")).begins.done()
    assert join(table.of("wss://one", "b")).begins.done()
    assert join(table.of("wss://two", "a")).begins.done()


async def test_a_full_table_evicts_the_least_recently_used_key() -> None:
    table = QueueTable(SLOW, metrics.worker().sessions_waiting)
    kept, evicted = table.of("wss://one", "kept"), table.of("wss://one", "evicted")
    for number in range(session_queue.MAX_PAIRS - 1):
        assert table.of("wss://one", "kept") is kept
        table.of("wss://one", str(number))
    assert table.of("wss://one", "kept") is kept
    assert table.of("wss://one", "evicted") is not evicted


async def test_a_standby_that_takes_its_call_waits_as_a_caller() -> None:
    async with (
        RealtimeSimulator(QUICK) as simulator,
        call_to(simulator.url, restore=True, sessions_per_second=0.1) as desk,
    ):
        queue = desk.shared.queues.of(desk.shared.settings.openai_base_url, KEY)
        join(queue)
        desk.record(wire.Resume("rollover", standby=True))
        await eventually(lambda: queue.openings.waiting == 1)
        (opening,) = queue._places
        urgencies = [opening.urgency]
        desk.record(wire.Resume("worker_lost"))
        urgencies.append(opening.urgency)
        assert urgencies == [Urgency.STANDBY, Urgency.CALLER]
        assert opening.latest_seconds - time.monotonic() <= MOST_CALLER_SECONDS
        queue.give_back()
        await desk.ready()
        assert queue.openings.waiting == 0


async def test_a_call_that_ends_while_it_waits_leaves_the_queue() -> None:
    async with (
        RealtimeSimulator(QUICK) as simulator,
        call_to(simulator.url, sessions_per_second=0.1) as desk,
    ):
        queue = desk.shared.queues.of(desk.shared.settings.openai_base_url, KEY)
        join(queue)
        await eventually(lambda: queue.openings.waiting == 1)
        desk.call.stop("the test ends it")
        await eventually(lambda: queue.openings.waiting == 0)
        assert simulator.opened == 0

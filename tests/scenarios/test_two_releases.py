"""Two releases side by side, as during a rollout: they understand each other, and calls go to the newer one."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest
import redis.asyncio as aioredis

from common.store.keys import KEY_PREFIX
from simulator.realtime.server import RealtimeSimulator
from tests.helpers import eventually
from tests.scenarios.conversations import BRIEF, are_on, converse, place
from tests.scenarios.processes import PATIENCE_SECONDS, Cluster, ServiceProcess, worker_id

OLDER, NEWER = "0.0.9", "9.9.9"


class OtherRelease(ServiceProcess):
    """One process of another release, by OTHER_RELEASE."""

    module = "tests.scenarios.other_release"


@pytest.fixture
async def simulator() -> AsyncIterator[RealtimeSimulator]:
    """A Realtime API that is brief."""
    async with RealtimeSimulator(BRIEF) as simulator:
        yield simulator


@pytest.mark.interpreted
async def test_releases_understand_each_other_and_no_call_goes_to_an_older_one_while_a_newer_one_has_room(
    real_redis_url: str, simulator: RealtimeSimulator
) -> None:
    async with (
        Cluster(real_redis_url, simulator.url, WORKER_MAX_CALLS=2) as cluster,
        aioredis.from_url(real_redis_url, decode_responses=True) as client,
    ):
        older, ours, newer = await asyncio.gather(
            cluster.add_worker(OtherRelease, OTHER_RELEASE=OLDER),
            # With room for all: a full worker takes moved calls only if every other one is full, too.
            cluster.add_worker(WORKER_MAX_CALLS=3),
            cluster.add_worker(OtherRelease, OTHER_RELEASE=NEWER),
        )
        await cluster.add_dispatcher()
        await cluster.add_dispatcher(OtherRelease, OTHER_RELEASE=NEWER)

        # The newest first, however full, then the next; the older one has nothing to do all the time.
        calls = [await place(cluster, 0), await place(cluster, 1, [await cluster.url(0)])]
        await are_on(cluster, newer, *calls)
        calls.append(await place(cluster, 0))
        await are_on(cluster, ours, calls[2])
        # What only another release knows of in Redis.
        keys = [
            f"{KEY_PREFIX}worker:{await worker_id(ours)}",
            *(f"{KEY_PREFIX}call:{call.uuid}" for call in calls),
        ]
        for key in keys:
            await client.hset(key, "news", "of another release")

        async def is_told() -> bool:
            profiles = [await client.hget(f"{KEY_PREFIX}said:{call.uuid}", "profile") for call in calls[:2]]
            return all('"news"' in (profile or "") for profile in profiles)

        await eventually(is_told, PATIENCE_SECONDS)

        # From the newer one to this one, in order: both dispatchers hand on what the newer worker told them.
        newer.signal(signal.SIGTERM)
        assert await newer.ended() == 0
        await are_on(cluster, ours, *calls)
        await converse(*calls)
        assert {await client.hget(key, "news") for key in keys} == {"of another release"}

        # And on by death: what this one told them goes to a newer one. The caller of the newer dispatcher
        # comes back to this one.
        newest = await cluster.add_worker(OtherRelease, OTHER_RELEASE=NEWER, WORKER_MAX_CALLS=3)
        name = await worker_id(newest)
        await asyncio.gather(*(each.line("link up", worker=name) for each in cluster.dispatchers))
        ours.signal(signal.SIGKILL)
        await are_on(cluster, newest, *calls)
        cluster.dispatchers[1].signal(signal.SIGKILL)
        await calls[1].wait_for(lambda c: c.outages and c.is_connected, timeout_seconds=PATIENCE_SECONDS)
        await converse(*calls)
        assert {await client.hget(key, "news") for key in keys[1:]} == {"of another release"}

        # Nobody forgot anything on the way.
        said = [
            [("assistant" if each.role == "agent" else each.role, each.text) for each in call.transcripts]
            for call in calls
        ]
        known = [[(item.role, item.text) for item in session.items if item.text] for session in simulator.sessions]
        assert sorted(known) == sorted(said)

        # The newest one is full: for a new call, an older one is better than none.
        calls.append(await place(cluster, 0))
        await are_on(cluster, older, calls[3])
        for call in calls:
            assert call.errors == []
            assert call.violations == []
            await call.hang_up()
        lines = [line for each in (*cluster.workers, *cluster.dispatchers) for line in each.lines]
        assert not [line for line in lines if line["level"] == "error" or "not understood" in line["event"]]

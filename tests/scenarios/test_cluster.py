"""A cluster on one machine, whose processes are started and ended while callers talk.

The cluster has haproxy with the shipped file, two dispatchers, workers on separate loopback addresses as if on
three hosts, and a real Redis.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
import redis.asyncio as aioredis
from prometheus_client.parser import text_string_to_metric_families

from common.store.keys import KEY_PREFIX
from simulator.avr.core import SimulatedCall, place_call
from simulator.realtime.server import RealtimeSimulator
from tests.helpers import eventually, needed_program
from tests.scenarios.haproxy import CONFIGURATION, HaProxy
from tests.scenarios.processes import PATIENCE_SECONDS, Cluster, ServiceProcess, worker_id
from tests.scenarios.tones import tone

pytestmark = pytest.mark.system

HOSTS = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
ANOTHER_HOST = "127.0.0.5"
CAPACITY = 20
DRAIN_SECONDS = 5
SPEECH = tone(700, 0.6)


@pytest.fixture
async def cluster(real_redis_url: str, simulator: RealtimeSimulator) -> AsyncIterator[Cluster]:
    """Run two dispatchers, and a worker on each host."""
    needed_program("haproxy")
    async with Cluster(
        real_redis_url, simulator.url, WORKER_MAX_CALLS=CAPACITY, DRAIN_SECONDS=DRAIN_SECONDS
    ) as cluster:
        await asyncio.gather(*(cluster.add_worker(WORKER_ADDRESS=host) for host in HOSTS))
        # A dispatcher's drain lasts until its calls have ended.
        await asyncio.gather(*(add_dispatcher(cluster) for _ in range(2)))
        yield cluster


async def add_dispatcher(cluster: Cluster) -> ServiceProcess:
    """Start another dispatcher."""
    return await cluster.add_dispatcher(DRAIN_SECONDS=3600)


async def addresses(*dispatchers: ServiceProcess) -> list[tuple[int, int]]:
    """Return PORT and ADMIN_PORT of each dispatcher."""
    lines = [await dispatcher.line("dispatcher listening") for dispatcher in dispatchers]
    return [(line["port"], line["admin_port"]) for line in lines]


class Conversation:
    """A caller who talks turn after turn, and gets an answer to each.

    Attributes:
        call: the call.
        turns: the answered turns so far.
    """

    def __init__(self, call: SimulatedCall) -> None:
        self.call = call
        self.turns = 0
        self._may_talk = asyncio.Event()
        self._may_talk.set()
        self._rests = asyncio.Event()
        self._task = asyncio.create_task(self._talk())

    async def goes_on(self, turns: int = 2) -> None:
        """Wait for this many further answers. The first of these may have begun already."""
        wanted = self.turns + turns
        await eventually(lambda: self.turns >= wanted or self._task.done(), PATIENCE_SECONDS)
        assert self.turns >= wanted, await self._failure()

    async def pause(self) -> None:
        """Stop talking after this turn, until `resume`."""
        self._may_talk.clear()
        await eventually(lambda: self._rests.is_set() or self._task.done(), PATIENCE_SECONDS)
        assert self._rests.is_set(), await self._failure()

    def resume(self) -> None:
        """Continue to talk."""
        self._may_talk.set()

    async def hang_up(self) -> None:
        """Hang up, even while somebody speaks."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        assert not self.call.closed.is_set()
        assert not self.call.errors
        assert not self.call.violations
        await self.call.hang_up()

    async def _talk(self) -> None:
        while True:
            self._rests.set()
            await self._may_talk.wait()
            self._rests.clear()
            known = len(self.call.transcripts)
            await self.call.say(SPEECH)
            await self.call.wait_for(
                lambda c: len(c.transcripts) >= known + 2,  # noqa: B023 - asked within this turn alone
                timeout_seconds=PATIENCE_SECONDS,
            )
            roles = [transcript.role for transcript in self.call.transcripts[known:]]
            assert roles == ["user", "agent"], roles
            self.turns += 1

    async def _failure(self) -> object:
        (result,) = await asyncio.gather(self._task, return_exceptions=True)
        return result


async def begin(url: str, count: int) -> list[Conversation]:
    """Begin this many conversations, and wait for their greetings."""
    # One after the other, like real calls.
    calls = [await place_call(url, reconnect_seconds=PATIENCE_SECONDS) for _ in range(count)]
    await asyncio.gather(
        *(call.wait_for(lambda c: c.transcripts, timeout_seconds=PATIENCE_SECONDS) for call in calls)
    )
    return [Conversation(call) for call in calls]


async def all_go_on(conversations: Sequence[Conversation]) -> None:
    """Check that every caller still gets answers."""
    await asyncio.gather(*(conversation.goes_on() for conversation in conversations))


async def hang_up(conversations: Sequence[Conversation]) -> None:
    """Hang up all conversations."""
    await asyncio.gather(*(conversation.hang_up() for conversation in conversations))


async def get(port: int, path: str) -> Any:
    """Return the answer of an admin port."""
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}{path}") as response:
        return await (response.json() if path != "/metrics" else response.text())


async def admin_port(process: ServiceProcess) -> int:
    """Return the admin port of a dispatcher or a worker."""
    port: int = (await process.line(f"{process.name} listening"))["admin_port"]
    return port


async def metric(process: ServiceProcess, name: str, **labels: str) -> float:
    """Return the sum of a metric's series with these labels."""
    text = await get(await admin_port(process), "/metrics")
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == f"avr_sts_{name}" and labels.items() <= sample.labels.items()
    )


@dataclass(frozen=True, slots=True)
class Picture:
    """The state that the cluster reports.

    Attributes:
        calls: the worker and the number of pins of each call, by uuid.
        by_worker: the number of calls of each live worker.
        by_dispatcher: the number of calls of each dispatcher.
    """

    calls: dict[str, tuple[str, int]]
    by_worker: Counter[str]
    by_dispatcher: Counter[str]


async def picture(cluster: Cluster, conversations: Sequence[Conversation]) -> Picture:
    """Wait until `/calls`, `/workers` and the metrics of all processes agree, and these calls are live."""
    wanted = {conversation.call.uuid for conversation in conversations}
    found: list[Picture] = []

    async def agrees() -> bool:
        dispatchers = [each for each in cluster.dispatchers if each.returncode is None]
        workers = [each for each in cluster.workers if each.returncode is None]
        active = {await worker_id(each): await metric(each, "calls_active") for each in workers}
        for dispatcher in dispatchers:
            port = await admin_port(dispatcher)
            calls, rows = await get(port, "/calls"), await get(port, "/workers")
            by_worker = Counter({row["id"]: row["calls"] for row in rows})
            counted = Counter(call["worker"] for call in calls)
            if not (
                {call["uuid"] for call in calls} == wanted
                and all(call["state"] == "live" for call in calls)
                and {row["id"]: float(row["calls"]) for row in rows} == active
                and counted == +by_worker
                and all(row["capacity"] == CAPACITY and row["state"] == "ready" for row in rows)
            ):
                return False
        held = {call["uuid"]: (call["worker"], call["pins"]) for call in calls}
        found.append(Picture(held, by_worker, Counter(call["dispatcher"] for call in calls)))
        return True

    await eventually(agrees, PATIENCE_SECONDS)
    return found[-1]


async def ended(cluster: Cluster, redis_url: str, simulator: RealtimeSimulator, completed: int) -> None:
    """Check that all calls have ended, are counted, and left nothing behind."""
    nothing = await picture(cluster, [])
    assert not +nothing.by_worker
    living = [each for each in cluster.dispatchers if each.returncode is None]
    for outcome, wanted in (("completed", completed), ("failed", 0), ("rejected", 0)):
        assert sum([await metric(each, "calls_total", outcome=outcome) for each in living]) == wanted
    await eventually(lambda: not simulator.sessions, PATIENCE_SECONDS)
    async with aioredis.from_url(redis_url, decode_responses=True) as client:
        assert [key async for key in client.scan_iter(f"{KEY_PREFIX}call:*")] == []


def test_haproxy_accepts_the_operators_file() -> None:
    checked = subprocess.run(
        [needed_program("haproxy"), "-c", "-f", CONFIGURATION], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert "WARNING" not in checked.stderr


async def test_workers_are_added_and_drained_during_calls(
    real_redis_url: str, simulator: RealtimeSimulator, cluster: Cluster
) -> None:
    async with HaProxy(await addresses(*cluster.dispatchers)) as haproxy:
        conversations = await begin(haproxy.url, 6)
        before = await picture(cluster, conversations)
        assert [*before.by_worker.values()] == [2, 2, 2]
        assert [*before.by_dispatcher.values()] == [3, 3]
        rows = await get(await admin_port(cluster.dispatchers[0]), "/workers")
        assert {row["address"].split(":")[0] for row in rows} == {*HOSTS}

        # Another worker starts, and gets the next calls.
        added = await worker_id(await cluster.add_worker(WORKER_ADDRESS=ANOTHER_HOST))
        conversations += await begin(haproxy.url, 2)
        grown = await picture(cluster, conversations)
        assert grown.by_worker[added] == 2

        # Two workers stop, and their calls move to others while callers talk.
        leaving = {await worker_id(worker): worker for worker in cluster.workers[:2]}
        for worker in leaving.values():
            worker.signal(signal.SIGTERM)
        assert [await worker.ended(DRAIN_SECONDS + PATIENCE_SECONDS) for worker in leaving.values()] == [0, 0]
        shrunk = await picture(cluster, conversations)
        moved = [uuid for uuid, (worker, _) in grown.calls.items() if worker in leaving]
        assert len(moved) == 4
        assert not leaving.keys() & shrunk.by_worker.keys()
        # Each moved call moved once, or twice if its first target stopped, too.
        assert all(shrunk.calls[uuid][1] in (2, 3) for uuid in moved)
        assert all(shrunk.calls[uuid] == held for uuid, held in grown.calls.items() if uuid not in moved)
        repins = sum(pins - 1 for _, pins in shrunk.calls.values())
        drains = [await metric(each, "repins_total", reason="drain") for each in cluster.dispatchers]
        lost = [await metric(each, "repins_total", reason="worker_lost") for each in cluster.dispatchers]
        assert (sum(drains), sum(lost)) == (repins, 0)

        await all_go_on(conversations)
        assert not any(conversation.call.outages for conversation in conversations)
        await hang_up(conversations)
        await ended(cluster, real_redis_url, simulator, completed=8)


async def test_dispatchers_are_replaced_and_killed_during_calls(
    real_redis_url: str, simulator: RealtimeSimulator, cluster: Cluster
) -> None:
    old, killed = cluster.dispatchers
    async with HaProxy(await addresses(old, killed)) as haproxy:
        conversations = await begin(haproxy.url, 4)

        # The new dispatcher starts first. haproxy's earlier process keeps its calls, and its new process spreads
        # new calls.
        new = await add_dispatcher(cluster)
        await haproxy.reload(await addresses(old, killed, new))
        conversations += await begin(haproxy.url, 3)
        before = await picture(cluster, conversations)
        name_of_old = (await old.line("dispatcher listening"))["dispatcher"]
        assert before.by_dispatcher[name_of_old] == 3

        # Then the old dispatcher is told to stop. It gets no new calls, and keeps its calls although its check
        # fails.
        old.signal(signal.SIGTERM)
        await old.line("draining", calls=3)
        conversations += await begin(haproxy.url, 2)
        await haproxy.logged("Server dispatchers/dispatcher-1 is DOWN, reason: Layer7 wrong status, code: 503")
        await all_go_on(conversations)
        after = await picture(cluster, conversations)
        assert old.returncode is None
        assert not any(each.call.outages for each in conversations)
        assert after.by_dispatcher[name_of_old] == 3
        assert {uuid: after.calls[uuid] for uuid in before.calls} == before.calls

        # The old dispatcher ends after its last call.
        listed = await get(await admin_port(new), "/calls")
        on_old = {call["uuid"] for call in listed if call["dispatcher"] == name_of_old}
        leaving = [each for each in conversations if each.call.uuid in on_old]
        await hang_up(leaving)
        assert await old.ended() == 0

        # Callers of a killed dispatcher return through haproxy to the same session. They pause, because audio on
        # its way to a caller at that moment is lost with the dispatcher.
        staying = [each for each in conversations if each not in leaving]
        await asyncio.gather(*(each.pause() for each in staying))
        sessions = simulator.opened
        killed.signal(signal.SIGKILL)
        await killed.ended()
        # A new caller is served even if haproxy tries the killed dispatcher first.
        newcomers = await begin(haproxy.url, 2)
        name_of_killed = (await killed.line("dispatcher listening"))["dispatcher"]
        lost = after.by_dispatcher[name_of_killed]
        await eventually(
            lambda: sum(bool(each.call.outages) and each.call.is_connected for each in staying) == lost,
            PATIENCE_SECONDS,
        )
        for each in staying:
            each.resume()
        await all_go_on(staying)
        last = await picture(cluster, [*staying, *newcomers])
        assert {each.call.uuid: last.calls[each.call.uuid] for each in staying} == {
            uuid: held for uuid, held in after.calls.items() if uuid not in on_old
        }
        assert len(last.by_dispatcher) == 1
        assert simulator.opened == sessions + len(newcomers)
        assert await metric(new, "recovery_seconds_count") == 0

        await hang_up([*staying, *newcomers])
        # The counts of ended processes are gone from their metrics; Prometheus would have kept them.
        await ended(cluster, real_redis_url, simulator, completed=8)

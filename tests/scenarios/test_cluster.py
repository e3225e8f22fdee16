"""A cluster on one machine, as an operator runs it, while people talk and its processes come and go.

haproxy with the file that we ship, two dispatchers, workers on addresses of their own as if on three hosts, a real
Redis.
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
    """Two dispatchers, and a worker on each host."""
    needed_program("haproxy")
    async with Cluster(
        real_redis_url, simulator.url, WORKER_MAX_CALLS=CAPACITY, DRAIN_SECONDS=DRAIN_SECONDS
    ) as cluster:
        await asyncio.gather(*(cluster.add_worker(WORKER_ADDRESS=host) for host in HOSTS))
        # A dispatcher's drain lasts as long as its calls.
        await asyncio.gather(*(add_dispatcher(cluster) for _ in range(2)))
        yield cluster


async def add_dispatcher(cluster: Cluster) -> ServiceProcess:
    """One more."""
    return await cluster.add_dispatcher(DRAIN_SECONDS=3600)


async def addresses(*dispatchers: ServiceProcess) -> list[tuple[int, int]]:
    """PORT and ADMIN_PORT of each."""
    lines = [await dispatcher.line("dispatcher listening") for dispatcher in dispatchers]
    return [(line["port"], line["admin_port"]) for line in lines]


class Conversation:
    """A caller who talks without an end, and gets an answer each time.

    Attributes:
        call: the call.
        turns: what was answered so far.
    """

    def __init__(self, call: SimulatedCall) -> None:
        self.call = call
        self.turns = 0
        self._may_talk = asyncio.Event()
        self._may_talk.set()
        self._rests = asyncio.Event()
        self._task = asyncio.create_task(self._talk())

    async def goes_on(self, turns: int = 2) -> None:
        """Wait for so many more answers: the first may have been under way."""
        wanted = self.turns + turns
        await eventually(lambda: self.turns >= wanted or self._task.done(), PATIENCE_SECONDS)
        assert self.turns >= wanted, await self._failure()

    async def pause(self) -> None:
        """Say nothing more after this turn, until `resume`."""
        self._may_talk.clear()
        await eventually(lambda: self._rests.is_set() or self._task.done(), PATIENCE_SECONDS)
        assert self._rests.is_set(), await self._failure()

    def resume(self) -> None:
        """Talk again."""
        self._may_talk.set()

    async def hang_up(self) -> None:
        """Whoever speaks."""
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
    """So many conversations, of which each has been greeted."""
    # One after the other, as calls come in.
    calls = [await place_call(url, reconnect_seconds=PATIENCE_SECONDS) for _ in range(count)]
    await asyncio.gather(
        *(call.wait_for(lambda c: c.transcripts, timeout_seconds=PATIENCE_SECONDS) for call in calls)
    )
    return [Conversation(call) for call in calls]


async def all_go_on(conversations: Sequence[Conversation]) -> None:
    """Nobody is left without an answer."""
    await asyncio.gather(*(conversation.goes_on() for conversation in conversations))


async def hang_up(conversations: Sequence[Conversation]) -> None:
    """All of them."""
    await asyncio.gather(*(conversation.hang_up() for conversation in conversations))


async def get(port: int, path: str) -> Any:
    """What an admin port answers."""
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}{path}") as response:
        return await (response.json() if path != "/metrics" else response.text())


async def admin_port(process: ServiceProcess) -> int:
    """Of a dispatcher or a worker."""
    port: int = (await process.line(f"{process.name} listening"))["admin_port"]
    return port


async def metric(process: ServiceProcess, name: str, **labels: str) -> float:
    """The sum of a metric's series with these labels, as the process exports it."""
    text = await get(await admin_port(process), "/metrics")
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == f"avr_sts_{name}" and labels.items() <= sample.labels.items()
    )


@dataclass(frozen=True, slots=True)
class Picture:
    """The cluster as it shows itself.

    Attributes:
        calls: by uuid: its worker and how many have held it.
        by_worker: how many calls each worker that lives has.
        by_dispatcher: how many calls each dispatcher has.
    """

    calls: dict[str, tuple[str, int]]
    by_worker: Counter[str]
    by_dispatcher: Counter[str]


async def picture(cluster: Cluster, conversations: Sequence[Conversation]) -> Picture:
    """Wait until `/calls`, `/workers` and metrics, of any process, say the same, and these calls are live."""
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
    """All calls are over, and counted; nothing of them is left."""
    nothing = await picture(cluster, [])
    assert not +nothing.by_worker
    living = [each for each in cluster.dispatchers if each.returncode is None]
    for outcome, wanted in (("completed", completed), ("failed", 0), ("rejected", 0)):
        assert sum([await metric(each, "calls_total", outcome=outcome) for each in living]) == wanted
    await eventually(lambda: not simulator.sessions, PATIENCE_SECONDS)
    async with aioredis.from_url(redis_url, decode_responses=True) as client:
        assert [key async for key in client.scan_iter("avr-sts:call:*")] == []


def test_haproxy_takes_the_file_that_operators_are_given() -> None:
    checked = subprocess.run(
        [needed_program("haproxy"), "-c", "-f", CONFIGURATION], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert "WARNING" not in checked.stderr


async def test_workers_come_and_go_while_people_talk(
    real_redis_url: str, simulator: RealtimeSimulator, cluster: Cluster
) -> None:
    async with HaProxy(await addresses(*cluster.dispatchers)) as haproxy:
        conversations = await begin(haproxy.url, 6)
        before = await picture(cluster, conversations)
        assert [*before.by_worker.values()] == [2, 2, 2]
        assert [*before.by_dispatcher.values()] == [3, 3]
        rows = await get(await admin_port(cluster.dispatchers[0]), "/workers")
        assert {row["address"].split(":")[0] for row in rows} == {*HOSTS}

        # One more worker: the next calls are its.
        added = await worker_id(await cluster.add_worker(WORKER_ADDRESS=ANOTHER_HOST))
        conversations += await begin(haproxy.url, 2)
        grown = await picture(cluster, conversations)
        assert grown.by_worker[added] == 2

        # Two fewer: their calls go on elsewhere, under talk.
        leaving = {await worker_id(worker): worker for worker in cluster.workers[:2]}
        for worker in leaving.values():
            worker.signal(signal.SIGTERM)
        assert [await worker.ended(DRAIN_SECONDS + PATIENCE_SECONDS) for worker in leaving.values()] == [0, 0]
        shrunk = await picture(cluster, conversations)
        moved = [uuid for uuid, (worker, _) in grown.calls.items() if worker in leaving]
        assert len(moved) == 4
        assert not leaving.keys() & shrunk.by_worker.keys()
        # Once for those that had to move, or again, where the first to be chosen left, too.
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


async def test_a_dispatcher_is_replaced_while_people_talk_and_another_one_is_killed(
    real_redis_url: str, simulator: RealtimeSimulator, cluster: Cluster
) -> None:
    old, killed = cluster.dispatchers
    async with HaProxy(await addresses(old, killed)) as haproxy:
        conversations = await begin(haproxy.url, 4)

        # The new one first. haproxy's process of before keeps its calls; the one after spreads new calls over all.
        new = await add_dispatcher(cluster)
        await haproxy.reload(await addresses(old, killed, new))
        conversations += await begin(haproxy.url, 3)
        before = await picture(cluster, conversations)
        name_of_old = (await old.line("dispatcher listening"))["dispatcher"]
        assert before.by_dispatcher[name_of_old] == 3

        # Then the old one is told to end: it gets no call any more, and keeps those that it has, checked or not.
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

        # It ends by itself behind the last of its calls.
        listed = await get(await admin_port(new), "/calls")
        on_old = {call["uuid"] for call in listed if call["dispatcher"] == name_of_old}
        leaving = [each for each in conversations if each.call.uuid in on_old]
        await hang_up(leaving)
        assert await old.ended() == 0

        # Callers of one that dies come back through haproxy, to the same session. In a pause: what is on its way
        # to a caller in that very moment dies with the dispatcher.
        staying = [each for each in conversations if each not in leaving]
        await asyncio.gather(*(each.pause() for each in staying))
        sessions = simulator.opened
        killed.signal(signal.SIGKILL)
        await killed.ended()
        # A new caller, sent to the dead one or not, notices nothing.
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
        # What the others had completed went with them: Prometheus has it.
        await ended(cluster, real_redis_url, simulator, completed=8)

"""`serve`: the parent, its children, and the end of all of them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from simulator.avr.core import SimulatedCall, place_call
from simulator.realtime.server import RealtimeSimulator
from tests.hanging_resolver import HOST, HangingResolver
from tests.helpers import eventually
from tests.scenarios.processes import BRIEF, KEY, PATIENCE_SECONDS, ServiceProcess, wait_gone
from tests.scenarios.tones import tone
from tests.tiny_folder import fill, tiny_folder


@asynccontextmanager
async def _serve(
    simulator: RealtimeSimulator, **settings: object
) -> AsyncIterator[tuple[ServiceProcess, str, str]]:
    """Run `serve` with embedded Redis; yield the process, the address for AVR Core and the admin port."""
    defaults = {"PORT": 0, "ADMIN_PORT": 0, "WORKERS": 2, "OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": simulator.url}
    serve = await ServiceProcess.start("serve", **(defaults | settings))
    try:
        line = await serve.line("serving")
        yield serve, f"ws://127.0.0.1:{line['port']}/", f"http://127.0.0.1:{line['admin_port']}"
    finally:
        await serve.kill()


async def test_start_with_a_key_alone_logs_no_warning() -> None:
    """Set only a key, and free ports, because other tests run at the same time."""
    serve = await ServiceProcess.start("serve", OPENAI_API_KEY=KEY, PORT=0, ADMIN_PORT=0)
    try:
        await serve.line("serving")
        assert [line for line in serve.lines if line["level"] != "info"] == []
    finally:
        await serve.kill()


async def _get(url: str) -> Any:
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        return await response.json()


async def _metric(admin_url: str, name: str) -> float:
    async with aiohttp.ClientSession() as http, http.get(f"{admin_url}/metrics") as response:
        lines = (await response.text()).splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


async def _restarted(admin_url: str) -> bool:
    """Return whether a restart of each kind of child is counted."""
    try:
        counts = [await _metric(admin_url, f"avr_sts_{kind}_restarts_total") for kind in ("dispatcher", "redis")]
    except aiohttp.ClientError:
        return False
    return counts == [1, 1]


async def _shows(admin_url: str, name: str, value: float) -> None:
    """Wait for this figure, because processes write their metrics with a delay."""

    async def shown() -> bool:
        return await _metric(admin_url, name) == value

    await eventually(shown, PATIENCE_SECONDS)


def _sockets(port: int) -> list[Any]:
    return [c for c in psutil.net_connections("tcp") if c.laddr and c.laddr.port == port and c.status == "LISTEN"]


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
async def test_signal_ends_all_processes_and_closes_all_sockets(
    simulator: RealtimeSimulator, ending: signal.Signals
) -> None:
    async with _serve(simulator) as (serve, url, admin_url):
        family = serve.family()
        assert len(family) == 5  # the parent, two workers, a dispatcher, Redis
        ports = [int(address.rstrip("/").rpartition(":")[2]) for address in (url, admin_url)]
        assert all(_sockets(port) for port in ports)
        (metrics_dir,) = {
            p.environ()["AVR_STS_METRICS_DIR"] for p in family if "AVR_STS_METRICS_DIR" in p.environ()
        }
        if ending is signal.SIGINT:
            os.killpg(serve.pid, ending)  # like Ctrl-C
        else:
            serve.signal(ending)
        assert await serve.ended() == 0
        await wait_gone(family)
        assert not any(_sockets(port) for port in ports)
        assert not os.path.exists(metrics_dir)  # noqa: ASYNC240, PTH110 - one look at a local directory


async def test_ipv4_and_ipv6_are_served(simulator: RealtimeSimulator) -> None:
    async with _serve(simulator) as (_, url, admin_url):
        for host in ("[::1]", "127.0.0.1"):
            call = await place_call(url.replace("127.0.0.1", host))
            await call.wait_for(lambda c: c.received_pcm, timeout_seconds=PATIENCE_SECONDS)
            # Loopback may use the calls API, in any form of its address.
            (known,) = await _get(f"{admin_url.replace('127.0.0.1', host)}/calls")
            assert known["uuid"] == call.uuid
            await call.hang_up()
            await eventually(lambda: not simulator.sessions, PATIENCE_SECONDS)


async def test_running_calls_end_with_an_error_after_the_drain(simulator: RealtimeSimulator) -> None:
    async with _serve(simulator, DRAIN_SECONDS=4) as (serve, url, _):
        short, long = await place_call(url), await place_call(url)
        for call in (short, long):
            await call.wait_for(lambda c: c.received_pcm, timeout_seconds=PATIENCE_SECONDS)
        serve.signal(signal.SIGTERM)
        await serve.line("draining", process="dispatcher-0")
        heard = len(short.received_pcm)
        await short.wait_for(lambda c: len(c.received_pcm) > heard or c.transcripts)
        await short.hang_up()
        await asyncio.wait_for(long.closed.wait(), PATIENCE_SECONDS)
        assert long.close_code == 1011
        assert "stopping" in long.errors[0].message
        assert await serve.ended() == 0
        await eventually(lambda: not simulator.sessions)


async def test_second_signal_ends_the_drain(simulator: RealtimeSimulator) -> None:
    async with _serve(simulator, DRAIN_SECONDS=600) as (serve, url, _):
        family = serve.family()
        call = await place_call(url)
        await call.wait_for(lambda c: c.received_pcm, timeout_seconds=PATIENCE_SECONDS)
        serve.signal(signal.SIGTERM)
        await serve.line("stopping")
        serve.signal(signal.SIGTERM)
        await serve.ended()
        await wait_gone(family)
        await asyncio.wait_for(call.closed.wait(), PATIENCE_SECONDS)


async def test_end_does_not_wait_for_a_stalled_resolver(simulator: RealtimeSimulator, tmp_path: Path) -> None:
    resolver = HangingResolver(tmp_path)
    variables = resolver.variables | {"OPENAI_BASE_URL": f"ws://{HOST}:1"}
    async with _serve(simulator, DRAIN_SECONDS=3600, **variables) as (serve, url, _):
        call = await place_call(url)
        await eventually(resolver.was_asked, PATIENCE_SECONDS)
        await call.hang_up()
        await serve.line("call ended")
        serve.signal(signal.SIGTERM)
        assert await serve.ended() == 0
        assert [line["killed"] for line in serve.events("stopped")] == [0]
        assert serve.events("process hung") == []


async def test_children_die_with_the_parent_even_when_stopped(
    simulator: RealtimeSimulator,
) -> None:
    async with _serve(simulator) as (serve, *_):
        family = serve.family()
        worker = next(line["pid"] for line in serve.events("worker listening"))
        os.kill(worker, signal.SIGSTOP)
        serve.signal(signal.SIGKILL)
        await wait_gone(family)


async def test_killed_processes_are_restarted_and_take_calls(simulator: RealtimeSimulator) -> None:
    async with _serve(simulator) as (serve, url, admin_url):
        # A killed worker is replaced under a new id and counted. Its gauges disappear.
        before = await _get(f"{admin_url}/workers")
        os.kill(before[0]["pid"], signal.SIGKILL)

        async def replaced() -> bool:
            now = {worker["id"] for worker in await _get(f"{admin_url}/workers")}
            return len(now) == 2 and before[0]["id"] not in now

        await eventually(replaced, PATIENCE_SECONDS)
        assert await _metric(admin_url, "avr_sts_worker_restarts_total") == 1
        assert await _metric(admin_url, "avr_sts_calls_capacity") == 400

        # After the death of the embedded Redis a running call continues, and new calls are accepted during and
        # after it.
        running = await place_call(url)
        await running.wait_for(lambda c: c.received_pcm, timeout_seconds=PATIENCE_SECONDS)
        redis = next(p for p in serve.family() if "common.store.embedded_redis" in p.cmdline())
        redis.kill()
        meanwhile = await place_call(url)
        await meanwhile.wait_for(lambda c: c.received_pcm, timeout_seconds=PATIENCE_SECONDS)

        async def whole_again() -> bool:
            try:
                calls = await _get(f"{admin_url}/calls")
            except aiohttp.ClientError:
                return False
            return isinstance(calls, list) and {c["uuid"] for c in calls} == {running.uuid, meanwhile.uuid}

        await eventually(whole_again, PATIENCE_SECONDS)
        assert not running.closed.is_set()

        # The death of the dispatcher ends its calls. New calls are accepted as soon as it is back.
        dispatcher = serve.events("dispatcher listening")[0]["pid"]
        os.kill(dispatcher, signal.SIGKILL)
        await asyncio.wait_for(running.closed.wait(), PATIENCE_SECONDS)
        await eventually(lambda: len(serve.events("dispatcher listening")) == 2, PATIENCE_SECONDS)
        await eventually(lambda: _restarted(admin_url), PATIENCE_SECONDS)

        async def ready() -> bool:
            try:
                async with aiohttp.ClientSession() as http, http.get(f"{admin_url}/readyz") as response:
                    return response.status == 200
            except aiohttp.ClientError:
                return False

        await eventually(ready, PATIENCE_SECONDS)
        again = await place_call(url)
        await again.wait_for(lambda c: c.received_pcm, timeout_seconds=PATIENCE_SECONDS)
        await again.hang_up()


async def test_hung_processes_are_replaced_and_take_calls(simulator: RealtimeSimulator) -> None:
    async with _serve(simulator, DISPATCHERS=2) as (serve, url, admin_url):
        await eventually(lambda: len(serve.events("dispatcher listening")) == 2, PATIENCE_SECONDS)
        await eventually(lambda: len(serve.events("worker listening")) == 2, PATIENCE_SECONDS)
        redis = next(p.pid for p in serve.family() if "common.store.embedded_redis" in p.cmdline())
        hung = {
            serve.events("worker listening")[0]["pid"],
            serve.events("dispatcher listening")[0]["pid"],
            redis,
        }
        for pid in hung:
            os.kill(pid, signal.SIGSTOP)
        await eventually(lambda: len(serve.events("process hung")) >= 3, PATIENCE_SECONDS)
        await eventually(lambda: not any(psutil.pid_exists(pid) for pid in hung), PATIENCE_SECONDS)
        await eventually(lambda: len(serve.events("dispatcher listening")) >= 3, PATIENCE_SECONDS)
        await eventually(lambda: len(serve.events("worker listening")) >= 3, PATIENCE_SECONDS)
        # The kernel distributes the port's connections over both dispatchers.
        for _ in range(8):
            call = await place_call(url)
            await call.wait_for(lambda c: c.received_pcm, timeout_seconds=PATIENCE_SECONDS)
            await call.hang_up()
        await _shows(admin_url, "avr_sts_worker_restarts_total", 1)
        assert [line["child"] for line in serve.events("process hung")].count("redis") == 1


async def _agent_has_spoken(call: SimulatedCall, *, times: int) -> None:
    await call.wait_for(
        lambda c: sum(t.role == "agent" for t in c.transcripts) >= times, timeout_seconds=PATIENCE_SECONDS
    )


async def test_metrics_are_right_across_processes() -> None:
    async with (
        RealtimeSimulator(BRIEF) as simulator,
        _serve(simulator, DISPATCHERS=2) as (_, url, admin_url),
    ):
        calls = [await place_call(url) for _ in range(6)]
        await asyncio.gather(*(_agent_has_spoken(call, times=1) for call in calls))
        await _shows(admin_url, "avr_sts_calls_active", 6)
        await _shows(admin_url, "avr_sts_redis_up", 1)

        async def answered(call: SimulatedCall) -> None:
            # One after the other, because digits that come with the greeting's request share its reply.
            await call.press("12#")
            await _agent_has_spoken(call, times=2)
            await call.say(tone(700, 0.8))
            await _agent_has_spoken(call, times=3)
            await call.hang_up()

        await asyncio.gather(*(answered(call) for call in calls))
        await eventually(lambda: not simulator.sessions)
        await _shows(admin_url, "avr_sts_calls_active", 0)
        await _shows(admin_url, "avr_sts_calls_total", 6)
        await _shows(admin_url, "avr_sts_session_duration_seconds_count", 6)
        await _shows(admin_url, "avr_sts_dtmf_digits_total", 18)
        await _shows(admin_url, "avr_sts_greeting_latency_seconds_count", 6)
        await _shows(admin_url, "avr_sts_turn_latency_seconds_count", 6)
        await _shows(admin_url, "avr_sts_turn_part_seconds_count", 3 * 6)
        latency = await _metric(admin_url, "avr_sts_turn_latency_seconds_sum")
        assert await _metric(admin_url, "avr_sts_turn_part_seconds_sum") == pytest.approx(latency)
        await _shows(admin_url, "avr_sts_upstream_connect_seconds_count", 6)
        assert await _metric(admin_url, "avr_sts_relay_seconds_count") > 0
        assert await _metric(admin_url, "avr_sts_event_loop_lag_seconds_count") > 0
        # Every token of the API's usage is counted once.
        used = [session.core.usage.wire() for session in simulator.history]
        wanted = sum(usage["input_tokens"] + usage["output_tokens"] for usage in used)
        assert wanted > 0
        await _shows(admin_url, "avr_sts_tokens_total", wanted)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, "OPENAI_API_KEY"),
        ({"OPENAI_API_KEY": KEY, "OPENAI_VOICE": "darth", "STRICT_SETTINGS": "true"}, "OPENAI_VOICE"),
        ({"OPENAI_API_KEY": KEY, "WORKERS": "many"}, "WORKERS"),
        ({"OPENAI_API_KEY": KEY, "STS_TOKEN": "s3cret-token"}, "STS_TOKEN"),
        ({"OPENAI_API_KEY": KEY, "TLS_CERT": "/no/such/file", "TLS_KEY": __file__}, "TLS_CERT"),
    ],
)
async def test_wrong_setting_stops_the_start_with_one_line(settings: dict[str, str], named: str) -> None:
    serve = await ServiceProcess.start("serve", PORT=0, ADMIN_PORT=0, **settings)
    assert await serve.ended() == os.EX_CONFIG
    assert serve.raw.count("\n") == 1
    assert serve.raw.startswith(f"avr-sts-openai: {named}")
    assert KEY not in serve.raw
    assert "s3cret" not in serve.raw


async def test_port_in_use_stops_the_start_with_one_line(simulator: RealtimeSimulator) -> None:
    async with _serve(simulator) as (_, url, _admin):
        port = int(url.rstrip("/").rpartition(":")[2])
        other = await ServiceProcess.start("serve", PORT=port, ADMIN_PORT=0, OPENAI_API_KEY=KEY)
        assert await other.ended() == os.EX_CONFIG
        assert f"PORT={port}" in other.raw.splitlines()[-1]


async def test_full_temporary_folder_ends_no_worker_or_call(tmp_path: Path) -> None:
    """Fill the folder of the metrics. A write to a page without room would end the process by SIGBUS."""
    with tiny_folder(tmp_path, 1 << 16) as folder:
        async with (
            RealtimeSimulator(BRIEF) as simulator,
            _serve(simulator, TMPDIR=folder) as (serve, url, admin_url),
        ):
            fill(folder)
            call = await place_call(url)
            await _agent_has_spoken(call, times=1)
            await call.say(tone(500, 1.0))
            await _agent_has_spoken(call, times=2)
            assert serve.events("process ended") == []
            said = serve.events("metrics file cannot grow")
            assert len({line["pid"] for line in said}) == len(said) > 0
            await _metric(admin_url, "avr_sts_calls_total")  # is answered
            await call.hang_up()

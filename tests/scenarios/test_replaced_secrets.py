"""SIGHUP replaces secrets while calls run, and no call ends."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from simulator.avr.connection import CallError
from simulator.avr.core import SimulatedCall, place_call
from simulator.realtime.server import RealtimeSimulator
from tests.helpers import eventually
from tests.scenarios.processes import BRIEF, PATIENCE_SECONDS, Cluster, ServiceProcess, worker_id
from tests.scenarios.tones import tone

NAMES = ("OPENAI_API_KEY", "STS_TOKEN", "ADMIN_TOKEN", "CLUSTER_TOKEN")
READ_BY = {
    "serve": set(NAMES),
    "worker-0": {"OPENAI_API_KEY", "CLUSTER_TOKEN"},
    "dispatcher-0": {"STS_TOKEN", "ADMIN_TOKEN", "CLUSTER_TOKEN"},
}


class SecretFolder:
    """A folder with a file for each secret, as orchestrators mount it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.variables = {f"{name}_FILE": str(folder / name) for name in NAMES}

    def write(self, generation: str) -> None:
        for name in NAMES:
            (self._folder / name).write_text(secret(name, generation) + "\n")


def secret(name: str, generation: str) -> str:
    return f"{generation}-{name.lower().replace('_', '-')}-of-the-test"


async def _agent_has_spoken(call: SimulatedCall, *, times: int) -> None:
    await call.wait_for(
        lambda c: sum(t.role == "agent" for t in c.transcripts) >= times, timeout_seconds=PATIENCE_SECONDS
    )


async def _status(url: str, token: str) -> int:
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as http,
        http.get(f"{url}/calls") as response,
    ):
        return response.status


async def test_sighup_loads_new_secrets_and_keeps_old_tokens_a_while(tmp_path: Path) -> None:
    folder = SecretFolder(tmp_path)
    folder.write("first")
    simulated = dataclasses.replace(BRIEF, api_key=secret("OPENAI_API_KEY", "first"))
    async with RealtimeSimulator(simulated) as simulator, _serve(simulator, **folder.variables) as serve:
        line = await serve.line("serving")
        admin_url = f"http://127.0.0.1:{line['admin_port']}"

        def url(generation: str) -> str:
            return f"ws://127.0.0.1:{line['port']}/?token={secret('STS_TOKEN', generation)}"

        running = await place_call(url("first"))
        await _agent_has_spoken(running, times=1)

        folder.write("second")
        simulator.settings = dataclasses.replace(simulated, api_key=secret("OPENAI_API_KEY", "second"))
        serve.signal(signal.SIGHUP)
        for process, names in READ_BY.items():
            read = await serve.line("secrets reloaded", process=process)
            assert set(read["changed"]) == names

        # New calls come with the new token and with the former token. Their sessions use the new key.
        for generation in ("second", "first"):
            call = await place_call(url(generation))
            await _agent_has_spoken(call, times=1)
            await call.hang_up()
            assert await _status(admin_url, secret("ADMIN_TOKEN", generation)) == 200
        assert await _status(admin_url, secret("ADMIN_TOKEN", "third")) == 401
        with pytest.raises(CallError, match="401"):
            await place_call(url("third"))

        # The running call continues, and its next session also uses the new key.
        simulator.faults.drop(await simulator.wait_for_session(1))
        await running.say(tone(500, 1.0))
        await _agent_has_spoken(running, times=2)

        # A worker that replaces another one has only the new token, and its link opens.
        os.kill(serve.events("worker listening")[0]["pid"], signal.SIGKILL)
        await eventually(lambda: len(serve.events("worker listening")) == 2, PATIENCE_SECONDS)
        await serve.line("link up", worker=serve.events("worker listening")[1]["worker"])
        assert serve.events("changed settings need a restart") == []

        # A reload with a wrong secret changes nothing and is logged once, because children do not reload.
        (tmp_path / "STS_TOKEN").write_text("short")
        serve.signal(signal.SIGHUP)
        told = await serve.line("secrets not reloaded")
        assert told["reason"].startswith("STS_TOKEN_FILE names a file whose content is shorter than 16 ")
        assert "short" not in told["reason"].replace("shorter", "")
        call = await place_call(url("second"))
        await _agent_has_spoken(call, times=1)
        assert [line["process"] for line in serve.events("secrets not reloaded")] == ["serve"]
        assert not any(secret(name, each) in serve.raw for name in NAMES for each in ("first", "second"))


async def test_cluster_token_is_replaced_process_by_process(
    real_redis_url: str, simulator: RealtimeSimulator, tmp_path: Path
) -> None:
    folder = SecretFolder(tmp_path)
    folder.write("first")
    old, new = secret("CLUSTER_TOKEN", "first"), secret("CLUSTER_TOKEN", "second")
    async with Cluster(real_redis_url, simulator.url) as cluster:
        dispatcher = await cluster.add_dispatcher(CLUSTER_TOKEN_FILE=folder.variables["CLUSTER_TOKEN_FILE"])
        await dispatcher.line("dispatcher listening")
        folder.write("second")
        dispatcher.signal(signal.SIGHUP)
        await dispatcher.line("secrets reloaded", changed=["CLUSTER_TOKEN"])
        for token in (old, new):
            worker = await cluster.add_worker(CLUSTER_TOKEN=token)
            await dispatcher.line("link up", worker=await worker_id(worker))
        stranger = await cluster.add_worker(CLUSTER_TOKEN="the-token-of-another-one")
        await stranger.line("link refused")


@asynccontextmanager
async def _serve(simulator: RealtimeSimulator, **settings: object) -> AsyncIterator[ServiceProcess]:
    """Run a `serve` with one worker, and wait for the link."""
    defaults = {"PORT": 0, "ADMIN_PORT": 0, "WORKERS": 1, "OPENAI_BASE_URL": simulator.url}
    serve = await ServiceProcess.start("serve", **(defaults | settings))
    try:
        await serve.line("serving")
        await serve.line("link up", process="dispatcher-0")
        yield serve
    finally:
        await serve.kill()


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
async def test_a_signal_by_mistake_ends_no_call(simulator: RealtimeSimulator, number: signal.Signals) -> None:
    async with _serve(simulator, OPENAI_API_KEY="k" * 20) as serve:
        call = await place_call(f"ws://127.0.0.1:{(await serve.line('serving'))['port']}/")
        await _agent_has_spoken(call, times=1)
        for process in serve.family():
            process.send_signal(number)
        for name in ("serve", "worker-0", "dispatcher-0"):
            await serve.line("signal ignored", process=name, signal=number.name)
        await call.say(tone(500, 1.0))
        await _agent_has_spoken(call, times=2)
        assert serve.events("process ended") == []
        await call.hang_up()


async def test_sigquit_drains_serve(simulator: RealtimeSimulator) -> None:
    async with _serve(simulator, OPENAI_API_KEY="k" * 20) as serve:
        serve.signal(signal.SIGQUIT)
        assert await serve.ended() == 0
        assert {line["process"] for line in serve.events("draining")} == {"dispatcher-0", "worker-0"}

"""No log, answer, metric or memory of real processes contains a secret of a process or a call."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import redis

from simulator.avr.core import SimulatedCall, place_call
from simulator.realtime.server import RealtimeSimulator
from simulator.realtime.simulated_session import SimulatedSession
from tests.helpers import eventually
from tests.redis_process import RealRedis
from tests.scenarios.processes import PATIENCE_SECONDS, Cluster, worker_id
from tests.scripted import events as api
from tests.scripted.realtime_end import GREETING_HZ, Refusal, Script
from tests.scripted.service import ScriptedCall, ScriptedService, scripted_service
from tests.worker.call_desk import QUICK

# None of these values looks like a secret, so only redaction by exact value can find them.
PROCESS_KEY = "plain-process-key-0001"
CALL_KEY = "plain-call-key-0000002"
CRM_SECRET = "plain-crm-secret-00003"
HEADER_SECRET = "plain-header-val-00004"
POSTED_SECRET = "plain-posted-sec-00005"
STS_TOKEN = "plain-sts-token-000006"
OF_WORKERS = (PROCESS_KEY, CALL_KEY, CRM_SECRET, HEADER_SECRET, POSTED_SECRET)
SECRETS = (*OF_WORKERS, STS_TOKEN)
# Only dispatchers have STS_TOKEN, so no other service can quote it to a worker.
QUOTED = f"Wrong: {' '.join(OF_WORKERS)}."

CRM = {"type": "mcp", "server_label": "crm", "server_url": "https://crm.example", "authorization": CRM_SECRET}
POSTED = {
    "server_label": "posted",
    "server_url": "https://posted.example",
    "authorization": f"Bearer {POSTED_SECRET}",
    "headers": {"X-Auth": HEADER_SECRET},
}


@pytest.fixture
async def service(locked_redis: RealRedis, tmp_path: Path) -> AsyncIterator[ScriptedService]:
    settings = {
        "OPENAI_API_KEY": PROCESS_KEY,
        "OPENAI_MCP_SERVERS": orjson.dumps([CRM]).decode(),
        "STS_TOKEN": STS_TOKEN,
        "LOG_LEVEL": "debug",
    }
    async with scripted_service(locked_redis.url, tmp_path, **settings) as service, service.own_calls():
        yield service


async def place(service: ScriptedService, **options: Any) -> ScriptedCall:
    url = f"{await service.cluster.url()}?token={STS_TOKEN}&note={CALL_KEY}&from={STS_TOKEN}"
    call = await place_call(url, provider_config={"api_key": CALL_KEY}, **options)
    return ScriptedCall(service, call, await service.realtime.session(CALL_KEY, 1), CALL_KEY)


def stored(url: str) -> str:
    """Return all data in Redis."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        values: list[Any] = []
        for key in client.scan_iter():
            kind = client.type(key)
            read = {
                "hash": client.hgetall,
                "string": client.get,
                "set": client.smembers,
                "zset": lambda key: client.zrange(key, 0, -1),
            }
            values += [key, read[str(kind)](key)]
    return str(values)


async def watch(service: ScriptedService, uuid: str) -> tuple[asyncio.Task[str], asyncio.Event]:
    """Read a call's events until the call ends."""
    watching = asyncio.Event()

    async def read() -> str:
        url = f"{await service.cluster.admin_url()}/calls/{uuid}/events"
        async with aiohttp.ClientSession() as http, http.get(url) as response:
            watching.set()
            return await response.text()

    return asyncio.create_task(read()), watching


async def test_no_secret_is_stored_logged_or_answered(service: ScriptedService, locked_redis: RealRedis) -> None:
    line = await place(service)
    uuid = line.call.uuid
    await line.hears(GREETING_HZ)
    events, watching = await watch(service, uuid)
    await watching.wait()
    assert (await line.update({"tools": [POSTED]}))[0] == 200
    assert [tool["authorization"] for tool in line.session.configuration["tools"] if "authorization" in tool] == [
        CRM_SECRET,
        f"Bearer {POSTED_SECRET}",
    ]
    # The API quotes all secrets: in an error, in a transcript, and in the refusal of a change.
    line.session.send(api.error(QUOTED, code="plain-call-key-0000002"))
    line.session.turn(QUOTED)
    line.session.reply(900, text=QUOTED)
    await line.hears(GREETING_HZ, 900)
    line.session.script.update = lambda session, update: session.send(
        api.error(QUOTED, code="invalid_value", param="session.instructions", event_id=update["event_id"])
    )
    status, refusal = await line.update({"instructions": "Be brief."})
    assert (status, refusal) == (422, {"error": f"Wrong: {' '.join(['***'] * len(OF_WORKERS))}."})
    answers = [str(refusal)]
    async with aiohttp.ClientSession() as http:
        admin = await service.cluster.admin_url()
        for path in (f"calls/{uuid}", "calls", "workers", "metrics"):
            async with http.get(f"{admin}/{path}") as response:
                answers.append(await response.text())
        worker = await service.cluster.workers[0].line("worker listening")
        async with http.get(f"http://127.0.0.1:{worker['admin_port']}/metrics") as response:
            answers.append(await response.text())
    assert "Wrong: ***" in answers[1]
    await service.lines(line, "upstream error", "***")

    def is_remembered() -> bool:
        return "posted.example" in stored(locked_redis.url) and "Wrong: ***" in stored(locked_redis.url)

    async with asyncio.timeout(10):
        while not is_remembered():
            await line.passes(0.1)
    memory = stored(locked_redis.url)
    # The reason of the end quotes the secrets, too.
    line.session.script.refuses = Refusal(403, {"message": QUOTED, "code": "no_access"})
    line.session.drop()
    complaint = await line.ends()
    assert "Wrong: ***" in complaint
    shown = [memory, complaint, str(line.call.close_reason), await events, *answers, service.cluster.logs]
    for secret in SECRETS:
        for text in shown:
            assert secret not in text, text[max(0, text.index(secret) - 300) :][:600]


async def test_refused_start_does_not_show_the_key(service: ScriptedService) -> None:
    refused = Refusal(401, {"message": f"Incorrect API key provided: {PROCESS_KEY}"})
    service.realtime.scripts[PROCESS_KEY] = Script(refuses=refused)
    call = await place_call(f"{await service.cluster.url()}?token={STS_TOKEN}")
    await call.wait_for(lambda call: call.errors, timeout_seconds=8)
    await call.hang_up()
    assert "Incorrect API key provided: ***" in call.errors[0].message
    assert PROCESS_KEY not in str(call.errors) + service.cluster.logs


FUNCTION = {"type": "function", "name": "look_at", "description": "Looks", "parameters": {"type": "object"}}
CHANGE = {"tools": [FUNCTION, POSTED], "instructions": "Be brief.", "audio": {"input": {"noise_reduction": None}}}


def tool_names(session: SimulatedSession) -> set[str]:
    return {str(tool.get("name") or tool.get("server_label")) for tool in session.session["tools"]}


def secrets_of(session: SimulatedSession) -> set[str]:
    return {str(tool["authorization"]) for tool in session.session["tools"] if "authorization" in tool}


async def change(cluster: Cluster, call: SimulatedCall, body: dict[str, Any], dispatcher: int = 0) -> None:
    """Send a `POST /session`, and expect success."""
    url = f"{await cluster.admin_url(dispatcher)}/calls/{call.uuid}/session"
    async with aiohttp.ClientSession() as http, http.post(url, json=body) as response:
        assert response.status == 200, await response.text()


@pytest.mark.parametrize("loss", ["drain", "worker_lost", "dropped"])
async def test_a_change_of_the_session_survives_a_move(real_redis_url: str, loss: str) -> None:
    async with RealtimeSimulator(QUICK) as simulator, Cluster(real_redis_url, simulator.url) as cluster:
        await cluster.start(workers=1)
        call = await place_call(await cluster.url())
        first = await simulator.wait_for_session()
        await call.wait_for(lambda call: call.transcripts, timeout_seconds=PATIENCE_SECONDS)
        await change(cluster, call, CHANGE)
        if loss == "dropped":
            first.drop()
        else:
            await cluster.dispatchers[0].line("link up", worker=await worker_id(await cluster.add_worker()))
            cluster.workers[0].signal(signal.SIGTERM if loss == "drain" else signal.SIGKILL)
        second = await simulator.wait_for_session(2, timeout_seconds=PATIENCE_SECONDS)
        await second.wait_for(lambda session: session.received["session.update"], timeout_seconds=PATIENCE_SECONDS)
        assert tool_names(second) == {"avr_transfer", "avr_hangup", "look_at", "posted"}
        assert secrets_of(second) == {f"Bearer {POSTED_SECRET}"}
        assert second.session["instructions"] == "Be brief."
        assert second.session["audio"]["input"].get("noise_reduction") is None
        await call.hang_up()


async def test_secrets_are_restored_when_dispatcher_and_worker_die(real_redis_url: str) -> None:
    servers = orjson.dumps([CRM]).decode()
    async with (
        RealtimeSimulator(QUICK) as simulator,
        Cluster(real_redis_url, simulator.url, OPENAI_MCP_SERVERS=servers) as cluster,
    ):
        await cluster.start(workers=1, dispatchers=2)
        urls = [await cluster.url(1)]
        call = await place_call(await cluster.url(0), reconnect_seconds=PATIENCE_SECONDS, reconnect_urls=urls)
        await call.wait_for(lambda call: call.transcripts, timeout_seconds=PATIENCE_SECONDS)
        await change(cluster, call, CHANGE)
        await eventually(lambda: "posted.example" in stored(real_redis_url), PATIENCE_SECONDS)
        memory = stored(real_redis_url)
        successor = await cluster.add_worker()
        await cluster.dispatchers[1].line("link up", worker=await worker_id(successor))
        cluster.workers[0].signal(signal.SIGKILL)
        cluster.dispatchers[0].signal(signal.SIGKILL)
        second = await simulator.wait_for_session(2, timeout_seconds=PATIENCE_SECONDS)
        await second.wait_for(system_notes, timeout_seconds=PATIENCE_SECONDS)
        assert tool_names(second) == {"avr_transfer", "avr_hangup", "look_at", "crm"}
        assert secrets_of(second) == {CRM_SECRET}
        assert second.session["instructions"] == "Be brief."
        assert system_notes(second) == ["[The tools of posted are not available at the moment.]"]
        line = await successor.line("tools without their secrets left out", uuid=call.uuid)
        assert line["tools"] == ["posted"]
        await change(cluster, call, {"tools": [POSTED]}, dispatcher=1)
        assert secrets_of(second) == {CRM_SECRET, f"Bearer {POSTED_SECRET}"}
        for secret in SECRETS:
            assert secret not in memory + stored(real_redis_url) + cluster.logs
        await call.hang_up()


def system_notes(session: SimulatedSession) -> list[str]:
    return [item.text for item in session.items if item.role == "system"]

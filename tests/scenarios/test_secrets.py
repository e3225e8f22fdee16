"""Secrets of the processes and of a call, through real processes: no log, answer, metric or memory holds them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import redis

from simulator.avr_core import place_call
from tests.redis_process import RealRedis
from tests.scripted import events as api
from tests.scripted.realtime_end import GREETING_HZ, Refusal, Script
from tests.scripted.service import ScriptedCall, ScriptedService, scripted_service

# None of them looks like a secret: only who knows them can tell.
PROCESS_KEY = "plain-process-key-0001"
CALL_KEY = "plain-call-key-0000002"
CRM_SECRET = "plain-crm-secret-00003"
HEADER_SECRET = "plain-header-val-00004"
POSTED_SECRET = "plain-posted-sec-00005"
STS_TOKEN = "plain-sts-token-000006"
SECRETS = (PROCESS_KEY, CALL_KEY, CRM_SECRET, HEADER_SECRET, POSTED_SECRET, STS_TOKEN)
QUOTED = f"Wrong: {' '.join(SECRETS)}."

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
    url = f"{await service.cluster.url()}?token={STS_TOKEN}&note={CALL_KEY}&from={PROCESS_KEY}"
    call = await place_call(url, provider_config={"api_key": CALL_KEY}, **options)
    return ScriptedCall(service, call, await service.realtime.session(CALL_KEY, 1), CALL_KEY)


def stored(url: str) -> str:
    """Everything that Redis holds."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        values: list[Any] = []
        for key in client.scan_iter():
            kind = client.type(key)
            read = {"hash": client.hgetall, "string": client.get, "zset": lambda key: client.zrange(key, 0, -1)}
            values += [key, read[str(kind)](key)]
    return str(values)


async def watch(service: ScriptedService, uuid: str) -> tuple[asyncio.Task[str], asyncio.Event]:
    """Read the call's events until it ends."""
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
    # The API quotes all of them: in an error, in what was said, and in its refusal of a change.
    line.session.send(api.error(QUOTED, code="plain-call-key-0000002"))
    line.session.turn(QUOTED)
    line.session.reply(900, text=QUOTED)
    await line.hears(GREETING_HZ, 900)
    line.session.script.update = lambda session, update: session.send(
        api.error(QUOTED, code="invalid_value", param="session.instructions", event_id=update["event_id"])
    )
    status, refusal = await line.update({"instructions": "Be brief."})
    assert (status, refusal) == (422, {"error": f"Wrong: {' '.join(['***'] * len(SECRETS))}."})
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
    # The end quotes them, too.
    line.session.script.refuses = Refusal(403, {"message": QUOTED, "code": "no_access"})
    line.session.drop()
    complaint = await line.ends()
    assert "Wrong: ***" in complaint
    shown = [memory, complaint, str(line.call.close_reason), await events, *answers, service.cluster.logs]
    for secret in SECRETS:
        for text in shown:
            assert secret not in text, text[max(0, text.index(secret) - 300) :][:600]


async def test_a_start_that_is_refused_for_the_key_does_not_show_it(service: ScriptedService) -> None:
    refused = Refusal(401, {"message": f"Incorrect API key provided: {PROCESS_KEY}"})
    service.realtime.scripts[PROCESS_KEY] = Script(refuses=refused)
    call = await place_call(f"{await service.cluster.url()}?token={STS_TOKEN}")
    await call.wait_for(lambda call: call.errors, timeout_seconds=8)
    await call.hang_up()
    assert "Incorrect API key provided: ***" in call.errors[0].message
    assert PROCESS_KEY not in str(call.errors) + service.cluster.logs

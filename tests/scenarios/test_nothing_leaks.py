"""Set every secret, say recognisable words, and then search all output of the run for both."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import aiohttp.web
import orjson
import redis

from simulator.avr.core import CallError, SimulatedCall, place_call
from simulator.realtime.server import RealtimeSimulator
from simulator.realtime.settings import SimulatorSettings, ToolCall
from tests.helpers import eventually
from tests.redis_process import RealRedis
from tests.scenarios.processes import PATIENCE_SECONDS, Cluster
from tests.scenarios.tones import tone

SECRETS = {
    "OPENAI_API_KEY": "sk-the-key-of-the-account-0123456789",
    "provider_config.api_key": "sk-the-key-of-one-call-0123456789",
    "a key that is refused": "sk-the-key-that-is-refused-0123456",
    "STS_TOKEN": "the-token-of-avr-core-0123456789",
    "CLUSTER_TOKEN": "the-token-of-the-cluster-0123456789",
    "ADMIN_TOKEN": "the-token-of-the-admin-0123456789",
    "a token that is wrong": "the-token-that-is-wrong-0123456789",
    "REDIS_URL": "redis-p4ssw0rd-of-this-test",
    "OPENAI_URL_INSTRUCTIONS": "the-secret-of-the-tenants-service",
    "OPENAI_MCP_SERVERS": "the-authorization-of-a-server-0123",
}
"""The secrets, by their setting or origin."""

SAID = {
    "the caller's speech": "marzipan",
    "the agent's speech": "wolverine",
    "what the agent was made to say": "xylophone",
    "the caller's keys": "8675309",
    "a tool's argument": "quicksand",
    "a tool's output": "tambourine",
    "instructions": "zeppelin",
    "bad input": "labyrinth",
}
"""The recognisable words, by speaker."""

TOOL = """
name = "look_up"
description = "Looks something up"
input_schema = {"type": "object", "properties": {"what": {"type": "string"}}}


async def handler(uuid, args, metadata):
    if metadata.get("from") == "200":
        raise RuntimeError(f"tambourine {args}")
    return "tambourine"
"""


def in_any_form(secret: str) -> set[str]:
    """Return a secret in plain form, and in its forms in URLs, headers and JSON."""
    return {secret, quote(secret), base64.b64encode(secret.encode()).decode(), secret.encode().hex()}


def secrets_in(written: str) -> list[str]:
    return [where for where, secret in SECRETS.items() if any(form in written for form in in_any_form(secret))]


def said_in(written: str) -> list[str]:
    return [who for who, word in SAID.items() if word in written.lower()]


@contextlib.asynccontextmanager
async def tenants() -> AsyncIterator[tuple[str, list[str]]]:
    """Run the web service of OPENAI_URL_INSTRUCTIONS; yield its URL and all its requests."""
    asked: list[str] = []

    async def answer(request: aiohttp.web.Request) -> aiohttp.web.Response:
        asked.append(f"{request.path_qs} {dict(request.headers)}")
        return aiohttp.web.json_response({"system": "Speak of the zeppelin."})

    app = aiohttp.web.Application()
    app.router.add_get("/instructions", answer)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/instructions", asked
    finally:
        await runner.cleanup()


class Written:
    """All output of a run, by its place."""

    def __init__(self, redis_url: str) -> None:
        self.texts: dict[str, str] = {}
        self._redis_url = redis_url

    def add(self, where: str, text: object) -> None:
        self.texts[where] = self.texts.get(where, "") + f"{text}\n"

    def redis(self) -> str:
        """Return every key and value that Redis has at the moment."""
        with redis.Redis.from_url(self._redis_url, decode_responses=True) as client:
            read: dict[str, Any] = {
                "string": client.get,
                "hash": client.hgetall,
                "set": client.smembers,
                "list": lambda key: client.lrange(key, 0, -1),
                "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
                "stream": client.xrange,
            }
            found = []
            for key in client.scan_iter(count=1000):
                kind = str(client.type(key))
                if kind != "none":  # the key has just expired or been deleted
                    found.append(f"{key} {read[kind](key)}")
        return "\n".join(found)


async def _spoken(call: SimulatedCall, role: str, times: int) -> None:
    await call.wait_for(
        lambda c: sum(t.role == role for t in c.transcripts) >= times, timeout_seconds=PATIENCE_SECONDS
    )


async def _converse(call: SimulatedCall) -> None:
    """Hold a conversation: a greeting, a question that needs a tool, keys, and an answer to the keys."""
    await _spoken(call, "agent", 1)
    await call.say(tone(700, 0.8))
    await _spoken(call, "user", 1)
    await call.press(SAID["the caller's keys"] + "#")
    await _spoken(call, "agent", 2)


async def test_secrets_and_callers_words_leave_no_trace(locked_redis: RealRedis, tmp_path: Path) -> None:
    (tmp_path / "look_up.py").write_text(TOOL)
    written = Written(locked_redis.url)
    behaviour = SimulatorSettings(
        say="one wolverine two",
        transcript="some marzipan please",
        tool_calls=(ToolCall(1, "look_up", '{"what": "quicksand"}'),),
        first_audio_seconds=0.05,
        transcription_delay_seconds=0.05,
    )
    mcp_servers = [
        {
            "server_label": "files",
            "server_url": "https://mcp.example",
            "authorization": SECRETS["OPENAI_MCP_SERVERS"],
        }
    ]
    async with (
        RealtimeSimulator(behaviour) as simulator,
        tenants() as (tenants_url, asked),
        Cluster(
            locked_redis.url,
            simulator.url,
            OPENAI_API_KEY=SECRETS["OPENAI_API_KEY"],
            STS_TOKEN=SECRETS["STS_TOKEN"],
            CLUSTER_TOKEN=SECRETS["CLUSTER_TOKEN"],
            ADMIN_TOKEN=SECRETS["ADMIN_TOKEN"],
            OPENAI_URL_INSTRUCTIONS=f"{tenants_url}?key={SECRETS['OPENAI_URL_INSTRUCTIONS']}",
            OPENAI_MCP_SERVERS=orjson.dumps(mcp_servers).decode(),
            TOOLS_DIR=tmp_path,
            LOG_LEVEL="info",
            FALLBACK_WAV="none",
        ) as cluster,
        aiohttp.ClientSession() as http,
    ):
        await cluster.start(workers=2, dispatchers=2)
        url, token = await cluster.url(), {"token": SECRETS["STS_TOKEN"]}
        bearer = {"Authorization": f"Bearer {SECRETS['ADMIN_TOKEN']}"}

        async def ask(method: str, path: str, body: object = None) -> str:
            admin = await cluster.admin_url(1)
            async with http.request(method, admin + path, headers=bearer, json=body) as response:
                return await response.text()

        # 1. Requests without a token, or with a wrong one.
        for wrong in ({}, {"token": SECRETS["a token that is wrong"]}):
            with contextlib.suppress(CallError):
                await place_call(url, metadata=wrong)
                raise AssertionError("a call without the token was taken")
        for authorization in ({}, {"Authorization": f"Bearer {SECRETS['a token that is wrong']}"}):
            async with http.get(f"{await cluster.admin_url()}/calls", headers=authorization) as response:
                assert response.status == 401
                written.add("errors", await response.text())

        # 2. Two conversations: one with its own key, the other with a token in a header and a tool that fails.
        call = await place_call(
            url, metadata=token | {"from": "100"}, provider_config={"api_key": SECRETS["provider_config.api_key"]}
        )
        other = await place_call(
            url, metadata={"from": "200"}, headers={"Authorization": f"Bearer {SECRETS['STS_TOKEN']}"}
        )
        await asyncio.gather(_converse(call), _converse(other))
        written.add("errors", await ask("POST", f"/calls/{call.uuid}/say", {"text": "a xylophone"}))
        await call.wait_for(lambda c: any("xylophone" in t.text for t in c.transcripts), timeout_seconds=20)
        written.add("errors", await ask("POST", f"/calls/{call.uuid}/session", {"voice_of": "nobody"}))
        await call.say(tone(700, 0.8))

        # Live data is searched only for secrets, because the API and Redis may contain the conversation.
        shown = await ask("GET", f"/calls/{call.uuid}")
        assert {"the caller's speech", "what the agent was made to say"} <= set(said_in(shown))
        secret_free = {
            "GET /calls/{uuid}": shown,
            "redis, meanwhile": written.redis(),
        }
        written.add("GET /calls", await ask("GET", "/calls"))
        written.add("GET /workers", await ask("GET", "/workers"))
        assert call.uuid in written.texts["GET /calls"]

        # 3. A key that is refused, bad input, a broken request of the older protocol.
        simulator.settings = replace(behaviour, api_key="another")
        refused = await place_call(
            url, metadata=token, provider_config={"api_key": SECRETS["a key that is refused"]}
        )
        await asyncio.wait_for(refused.closed.wait(), PATIENCE_SECONDS)
        assert refused.errors
        bad = await place_call(url, metadata=token)
        await bad.send_raw('{"type": "labyrinth", "labyrinth": "labyrinth"}')
        await asyncio.wait_for(bad.closed.wait(), PATIENCE_SECONDS)
        assert bad.errors
        written.add("errors", await _break_the_older_protocol(url))

        # 4. The end.
        for each in (call, other):
            await each.hang_up()
        for each in (call, other, refused, bad):
            written.add("errors", [error.message for error in each.errors])
        await eventually(lambda: not simulator.sessions, PATIENCE_SECONDS)
        for process in (*cluster.dispatchers, *cluster.workers):
            listening = next(line for line in process.lines if line["event"].endswith(" listening"))
            async with http.get(f"http://127.0.0.1:{listening['admin_port']}/metrics") as response:
                written.add("metrics", await response.text())

        # Redis drops the words of a call when the call ends.
        await eventually(
            lambda: not said_in(written.redis()) and call.uuid not in written.redis(), PATIENCE_SECONDS
        )
        written.add("redis, afterwards", written.redis())
        codes = await asyncio.gather(*(process.stop() for process in (*cluster.dispatchers, *cluster.workers)))
        assert set(codes) == {0}
        written.add("logs", cluster.logs)

    assert SECRETS["OPENAI_URL_INSTRUCTIONS"] in asked[0]  # the requests to that service contain this token
    secret_free["asked of the web service"] = "\n".join(asked).replace(SECRETS["OPENAI_URL_INSTRUCTIONS"], "")
    # The search works: it finds the words and secrets in the places where they belong.
    assert {"the caller's speech", "the agent's speech"} <= set(said_in(str(call.transcripts)))
    assert all(session.received["session.update"] for session in simulator.history)
    assert "call ended" in written.texts["logs"]
    assert "avr_sts_calls_total" in written.texts["metrics"]
    found = {where: secrets_in(text) for where, text in (written.texts | secret_free).items()}
    assert not {where: secrets for where, secrets in found.items() if secrets}
    found = {where: said_in(text) for where, text in written.texts.items()}
    assert not {where: words for where, words in found.items() if words}


async def _break_the_older_protocol(url: str) -> str:
    """Send a call with a body that is not chunked, and an invalid request; return the answers."""
    port = int(url.rstrip("/").rpartition(":")[2])
    answers = []
    for head in (
        f"POST /speech-to-speech-stream?token={SECRETS['STS_TOKEN']} HTTP/1.1",
        "POST marzipan labyrinth",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"{head}\r\nHost: x\r\nX-UUID: older-core\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        writer.write(b"labyrinth\r\nmarzipan labyrinth\r\n")
        with contextlib.suppress(ConnectionError):
            answers.append((await asyncio.wait_for(reader.read(), PATIENCE_SECONDS)).decode())
        writer.close()
    return "\n".join(answers)

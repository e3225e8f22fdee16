"""The features for callers and operators, through the real processes and a small avr-ami over HTTP."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import aiohttp.web
import orjson
import pytest

from common.audio.wav import read_wav
from simulator.avr.ami import AmiDouble
from simulator.avr.core import SimulatedCall, place_call
from simulator.realtime.server import RealtimeSimulator
from simulator.realtime.settings import DialectName
from tests.helpers import eventually
from tests.scenarios.processes import BRIEF, PATIENCE_SECONDS, Cluster, worker_id
from tests.scenarios.tones import tone

SPEECH = tone(700, 0.8)
RECORDED = Path(__file__).parents[2] / "simulator" / "speech" / "caller.wav"

HOURS_TOOL = """
name = "opening_hours"
description = "The opening hours of a day"
input_schema = {"type": "object", "properties": {"day": {"type": "string"}}, "required": ["day"]}


async def handler(uuid, args, metadata):
    return f"open from 9 to 5 on {args['day']}, caller {metadata['from']}"
"""


def _directive(**fields: Any) -> str:
    return f"Be helpful.\nsimulator: {orjson.dumps(fields).decode()}"


async def _agent_has_spoken(call: SimulatedCall, times: int) -> None:
    await call.wait_for(
        lambda c: sum(t.role == "agent" for t in c.transcripts) >= times, timeout_seconds=PATIENCE_SECONDS
    )


async def test_conversation_with_tool_keys_barge_in_and_transfer(real_redis_url: str, tmp_path: Path) -> None:
    (tmp_path / "hours.py").write_text(HOURS_TOOL)
    (tmp_path / "broken.py").write_text("raise RuntimeError('not this one')\n")
    instructions = _directive(
        greeting_words=2,
        words=6,
        tool_calls=[
            {"turn": 1, "name": "opening_hours", "arguments": '{"day": "Monday"}'},
            {"turn": 4, "name": "avr_transfer", "arguments": '{"transfer_extension": "600"}'},
        ],
    )
    async with (
        RealtimeSimulator() as simulator,
        AmiDouble() as ami,
        Cluster(
            real_redis_url,
            simulator.url,
            TOOLS_DIR=tmp_path,
            AMI_URL=ami.url,
            OPENAI_INSTRUCTIONS=instructions,
        ) as cluster,
    ):
        await cluster.start(workers=1)
        call = await place_call(await cluster.url(), metadata={"from": "100", "to": "600"})
        session = await simulator.wait_for_session()
        await _agent_has_spoken(call, 1)

        # 1. A question that needs a tool.
        await call.say(SPEECH)
        await session.wait_for(lambda s: any(i.type == "function_call_output" for i in s.items))
        output = next(item for item in session.items if item.type == "function_call_output")
        assert output.output == "open from 9 to 5 on Monday, caller 100"
        await _agent_has_spoken(call, 2)

        # 2. An answer that is interrupted.
        await call.say(SPEECH)
        spoken = len(session.responses)
        await session.wait_for(lambda s: s.responses and s.responses[-1].sent_ms > 0)
        await call.wait_for(lambda c: c.playout.queued_ms(asyncio.get_running_loop().time()) > 0)
        await call.say(SPEECH)
        await session.wait_for(lambda s: len(s.responses) > spoken)

        # 3. Keys, as one message.
        await _agent_has_spoken(call, 3)
        await call.press("12#")
        await session.wait_for(
            lambda s: any("1 2" in i.text or "12" in i.text for i in s.items if i.role == "user")
        )

        # 4. The transfer, after the caller has heard the agent's last words.
        await asyncio.wait_for(ami.wait_for(lambda double: double.requests), PATIENCE_SECONDS)
        (request,) = ami.requests
        assert (request.action, request.uuid, request.exten) == ("transfer", call.uuid, "600")
        await call.hang_up()
        await eventually(lambda: not simulator.sessions, PATIENCE_SECONDS)
        assert "broken.py" in cluster.workers[0].raw

        worker = await cluster.workers[0].line("worker listening")
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"http://127.0.0.1:{worker['admin_port']}/metrics") as response,
        ):
            metrics = await response.text()
        assert 'avr_sts_tool_calls_total{outcome="completed",tool="opening_hours"} 1.0' in metrics


async def test_a_hang_up_waits_for_the_last_words(real_redis_url: str) -> None:
    instructions = _directive(greeting_words=1, tool_calls=[{"turn": 1, "name": "avr_hangup"}])
    async with (
        RealtimeSimulator(BRIEF) as simulator,
        AmiDouble() as ami,
        Cluster(real_redis_url, simulator.url, AMI_URL=ami.url, OPENAI_INSTRUCTIONS=instructions) as cluster,
    ):
        await cluster.start(workers=1)
        call = await place_call(await cluster.url())
        await _agent_has_spoken(call, 1)
        await call.say(SPEECH)
        await asyncio.wait_for(ami.wait_for(lambda double: double.requests), PATIENCE_SECONDS)
        assert (ami.requests[0].action, ami.requests[0].uuid) == ("hangup", call.uuid)
        # The service closes the connection of a core that does not close it.
        await asyncio.wait_for(call.closed.wait(), PATIENCE_SECONDS)
        assert call.close_code == 1000
        assert not call.errors


async def test_the_calls_api_on_any_dispatcher(real_redis_url: str) -> None:
    async with (
        RealtimeSimulator(BRIEF) as simulator,
        AmiDouble() as ami,
        Cluster(real_redis_url, simulator.url, AMI_URL=ami.url) as cluster,
        aiohttp.ClientSession() as http,
    ):
        await cluster.start(workers=2, dispatchers=2)
        call = await place_call(await cluster.url(0), metadata={"from": "100"})
        session = await simulator.wait_for_session()
        await _agent_has_spoken(call, 1)
        elsewhere = f"{await cluster.admin_url(1)}/calls/{call.uuid}"

        async with http.get(elsewhere) as response:
            shown = await response.json()
        assert shown["worker"] in {await worker_id(worker) for worker in cluster.workers}
        assert shown["conversation"] == [{"role": "agent", "text": call.transcripts[0].text}]
        read = await cluster.dispatchers[1].line("conversation read", uuid=call.uuid)
        assert (read["peer"], read["times"]) == ("127.0.0.1", 1)

        async with http.get(f"{elsewhere}/events") as events:
            async with http.post(f"{elsewhere}/say", json={"text": "One moment please."}) as response:
                assert response.status == 200
            await call.wait_for(lambda c: any("moment" in t.text for t in c.transcripts), timeout_seconds=20)
            async with http.post(f"{elsewhere}/session", json={"instructions": "Speak Italian."}) as response:
                assert response.status == 200
            assert session.instructions == "Speak Italian."
            async with http.post(f"{elsewhere}/session", json={"voice_of": "nobody"}) as response:
                assert response.status == 422
                assert "voice_of" in (await response.json())["error"]

            async with http.delete(elsewhere) as response:
                assert response.status == 200
            await asyncio.wait_for(call.closed.wait(), PATIENCE_SECONDS)
            assert call.close_code == 1000
            assert (ami.requests[0].action, ami.requests[0].uuid) == ("hangup", call.uuid)
            seen = (await asyncio.wait_for(events.text(), PATIENCE_SECONDS)).splitlines()
        transcripts = [orjson.loads(line.removeprefix("data: ")) for line in seen if '"transcript"' in line]
        assert any("moment" in shown["text"] for shown in transcripts)

        async def gone() -> bool:
            async with http.get(elsewhere) as response:
                return response.status == 404

        await eventually(gone)


async def test_the_older_protocol_on_the_same_port(real_redis_url: str) -> None:
    settings = replace(BRIEF, words=3)
    async with (
        RealtimeSimulator(settings) as simulator,
        Cluster(real_redis_url, simulator.url) as cluster,
        aiohttp.ClientSession() as http,
    ):
        await cluster.start(workers=1)
        url = (await cluster.url()).replace("ws://", "http://") + "speech-to-speech-stream?from=100"
        answered = asyncio.Event()

        async def body() -> Any:
            """Yield speech and then silence, in chunks other than frames, until the agent has answered."""
            sound = bytes(16_000) + SPEECH
            for start in range(0, len(sound), 333):
                yield sound[start : start + 333]
                await asyncio.sleep(333 / 16_000)  # a caller speaks in real time
            while not answered.is_set():
                yield bytes(320)
                await asyncio.sleep(0.02)

        heard = b""
        async with http.post(url, data=body(), headers={"X-UUID": "older-core"}) as response:
            assert response.status == 200
            async for chunk in response.content.iter_any():
                heard += chunk
                if len(heard) >= 2 * 8 * BRIEF.word_ms * 5:  # a greeting of two words and a reply of three
                    answered.set()
        assert len(heard) % 320 == 0
        await eventually(lambda: not simulator.sessions)
        assert simulator.history[-1].sent["input_audio_buffer.committed"] >= 1

        async with http.post(url) as response:
            assert response.status == 400
            assert "uuid" in (await response.json())["message"]
        async with http.post(url.replace("speech-to-speech-stream", "elsewhere")) as response:
            assert response.status == 400


@pytest.mark.parametrize(
    "settings",
    [
        {"OPENAI_AUDIO_FORMAT": "pcmu"},
        {"OPENAI_AUDIO_FORMAT": "pcma"},
        {"OPENAI_TURN_DETECTION": "none"},
        {"OPENAI_TURN_DETECTION": "semantic_vad"},
        {"OPENAI_WELCOME_MESSAGE": "Welcome to us", "OPENAI_WELCOME_INTERRUPTIBLE": "false"},
        {"OPENAI_NOISE_REDUCTION": "far_field", "OPENAI_SPEED": "1.1", "OPENAI_MAX_TOKENS": "500"},
    ],
    ids=lambda settings: " ".join(f"{name}={value}" for name, value in settings.items()),
)
async def test_call_with_settings_of_the_session(real_redis_url: str, settings: dict[str, str]) -> None:
    async with (
        RealtimeSimulator(BRIEF) as simulator,
        Cluster(real_redis_url, simulator.url, **settings) as cluster,
    ):
        await cluster.start(workers=1)
        call = await place_call(await cluster.url())
        await _agent_has_spoken(call, 1)
        if "OPENAI_WELCOME_MESSAGE" in settings:
            assert call.transcripts[0].text == settings["OPENAI_WELCOME_MESSAGE"]
        # A recorded voice, because turn detection may ignore a tone.
        recorded = read_wav(RECORDED)[: 16_000 * 3]
        await call.say(recorded)
        await _agent_has_spoken(call, 2)
        await call.hang_up()


async def test_call_in_the_beta_dialect(real_redis_url: str) -> None:
    settings = replace(BRIEF, dialect=DialectName.BETA)
    async with (
        RealtimeSimulator(settings) as simulator,
        Cluster(real_redis_url, simulator.url, OPENAI_MODEL="gpt-4o-realtime-preview") as cluster,
    ):
        await cluster.start(workers=1)
        call = await place_call(await cluster.url())
        session = await simulator.wait_for_session()
        await _agent_has_spoken(call, 1)
        await call.say(SPEECH)
        await _agent_has_spoken(call, 2)
        assert [t.role for t in call.transcripts] == ["agent", "user", "agent"]
        assert not session.received["(refused)"]
        await call.hang_up()


async def test_instructions_service_gives_each_call_its_own_agent(real_redis_url: str) -> None:
    asked: list[tuple[str | None, dict[str, str]]] = []

    async def answer(request: aiohttp.web.Request) -> aiohttp.web.Response:
        asked.append((request.headers.get("X-AVR-UUID"), dict(request.query)))
        tenant = request.query["to"]
        return aiohttp.web.json_response({"system": f"You work for {tenant}, caller {{from}}.", "voice": "cedar"})

    app = aiohttp.web.Application()
    app.router.add_get("/instructions", answer)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/instructions"
    try:
        async with (
            RealtimeSimulator(BRIEF) as simulator,
            Cluster(real_redis_url, simulator.url, OPENAI_URL_INSTRUCTIONS=url) as cluster,
        ):
            await cluster.start(workers=1)
            for number, tenant in enumerate(("bakery", "dentist"), 1):
                call = await place_call(await cluster.url(), metadata={"from": "100", "to": tenant})
                session = await simulator.wait_for_session(number)
                await call.wait_for(lambda c: c.received_pcm, timeout_seconds=PATIENCE_SECONDS)
                assert session.instructions == f"You work for {tenant}, caller 100."
                assert session.session["audio"]["output"]["voice"] == "cedar"
                assert asked[-1] == (call.uuid, {"from": "100", "to": tenant})
                await call.hang_up()
    finally:
        await runner.cleanup()

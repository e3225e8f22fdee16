"""`POST /calls/{uuid}/session`: bodies are checked, merged by name, and survive the next move."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from common.link import wire
from simulator.realtime.server import RealtimeSimulator
from simulator.realtime.simulated_session import SimulatedSession
from tests.worker.call_desk import PATIENCE_SECONDS, QUICK, Desk, begun, call_to

MCP = {"type": "mcp", "server_label": "crm", "server_url": "https://crm.example", "authorization": "s3cret-of-crm"}
FUNCTION = {"type": "function", "name": "look_up", "description": "Looks up", "parameters": {"type": "object"}}


@pytest.fixture
async def simulator() -> AsyncIterator[RealtimeSimulator]:
    async with RealtimeSimulator(QUICK) as simulator:
        yield simulator


async def change(desk: Desk, body: dict[str, Any]) -> wire.Result:
    """Return the answer to `POST /session`."""
    answered: asyncio.Future[wire.Result] = asyncio.get_running_loop().create_future()

    def send(record: bytes) -> None:
        ((_, _, payload),) = wire.decode(record)
        answered.set_result(wire.decode_control(wire.Result, payload))

    desk.call.command(wire.Command(1, "uuid-1", "session", body), send)
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await answered


@asynccontextmanager
async def next_session(
    simulator: RealtimeSimulator, desk: Desk, *, number: int = 2, recalled: bool = False, **opening: Any
) -> AsyncIterator[tuple[Desk, SimulatedSession]]:
    """Yield another session of the call, which begins with the last memory of the dispatcher, or of Redis."""
    last = [record for record in desk.records if isinstance(record, wire.Profile)][-1]
    remembered = wire.Profile(last.record) if recalled else last
    async with begun(Desk(desk.shared, restore=True, epoch=number, **opening)) as following:
        following.record(remembered, wire.Resume("worker_lost", recalled=recalled))
        await following.ready()
        yield following, await simulator.wait_for_session(number)


def names(opened: SimulatedSession) -> list[str]:
    return [str(tool.get("name") or tool.get("server_label")) for tool in opened.session["tools"]]


FORMAT = {"type": "audio/pcm", "rate": 24000}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"audio": None}, "audio is null: must be an object"),
    ({"audio": {"input": None}}, "audio.input is null: must be an object"),
    ({"audio": {"output": []}}, "audio.output is a list: must be an object"),
    ({"audio": {"output": {"voice": None}}}, "audio.output.voice is null: may not be null"),
    ({"audio": {"output": {"speed": "fast"}}}, "audio.output.speed is text: must be a number from 0.25 to 1.5"),
    ({"instructions": None}, "instructions is null: must be text, and not empty"),
    ({"instructions": 7}, "instructions is a number: must be text, and not empty"),
    ({"instructions": " "}, "instructions is text: must be text, and not empty"),
    ({"output_modalities": ["text"]}, 'output_modalities is a list: must be ["audio"]'),
    ({"turn_detection": {"type": "magic"}}, "audio.input.turn_detection.type is text: must be one of server_vad"),
    ({"audio": {"input": {"turn_detection": True}}}, "audio.input.turn_detection is true: must be an object"),
    ({"audio": {"input": {"format": None}}}, "audio.input.format is null: may not be changed"),
    (
        {"audio": {"input": {"format": {"type": "audio/pcmu"}}}},
        "audio.input.format is an object: may not be changed",
    ),
    ({"audio": {"output": {"format": FORMAT | {"rate": 8000}}}}, "audio.output.format is an object: may not be"),
    ({"input_audio_format": "g711_ulaw"}, "input_audio_format is text: may not be changed"),
    ({"output_audio_format": "pcm16"}, "output_audio_format is text: may not be changed"),
    ({"model": "gpt-realtime-2"}, "model is text: may not be changed"),
    ({"temperature": 0.8}, "temperature is a number: "),
    ({"tools": None}, "tools is null: must be a list"),
    ({"tools": {}}, "tools is an object: must be a list"),
    ({"tools": [FUNCTION, 7]}, "tools[1] is a number: must be an object"),
    ({"tools": [{"type": "function", "name": "a b"}]}, "tools[0] is an object: must have a name"),
    (
        {"tools": [MCP | {"server_label": "avr_transfer"}]},
        "tools[0] is an object: must have another name",
    ),
    ({"tools": [FUNCTION | {"parameters": {"type": "array"}}]}, "tools[0] is an object: must have parameters"),
    ({"tools": [{"server_label": "crm"}]}, "tools[0] is an object: must have a server_url"),
    (
        {"tools": [{"type": "function", "name": f"t{number}"} for number in range(127)]},
        "tools is a list: a session has",
    ),
]


@pytest.mark.parametrize(("body", "said"), WRONG, ids=[said for _, said in WRONG])
async def test_a_wrong_body_is_refused_with_the_field(
    simulator: RealtimeSimulator, body: dict[str, Any], said: str
) -> None:
    async with call_to(simulator.url) as desk:
        await desk.ready()
        opened = await simulator.wait_for_session()
        updates = opened.received["session.update"]
        result = await change(desk, body)
        assert result.status == 400
        assert str(result.body["error"]).startswith(said)
        assert opened.received["session.update"] == updates
        assert not desk.is_over.is_set()


async def test_a_refused_body_names_ten_fields_at_most(simulator: RealtimeSimulator) -> None:
    async with call_to(simulator.url) as desk:
        await desk.ready()
        result = await change(desk, {"tools": [0] * 1000})
        assert result.status == 400
        error = str(result.body["error"])
        assert "tools[9] is a number" in error
        assert "tools[10]" not in error
        assert error.endswith("; and 990 more")


async def test_an_empty_input_leaves_the_call_its_next_move(simulator: RealtimeSimulator) -> None:
    async with call_to(simulator.url) as desk:
        await desk.ready()
        await change(desk, {"audio": {"input": None}})
        async with next_session(simulator, desk) as (following, opened):
            assert opened.session["audio"]["input"]["turn_detection"]["type"] == "server_vad"
            assert not following.is_over.is_set()


async def test_the_format_and_model_in_force_may_be_named(simulator: RealtimeSimulator) -> None:
    async with call_to(simulator.url, openai_model="gpt-realtime-2") as desk:
        await desk.ready()
        body = {"model": "gpt-realtime-2", "audio": {"input": {"format": FORMAT}, "output": {"format": FORMAT}}}
        assert (await change(desk, body | {"instructions": "Be brief."})).status == 200
        async with next_session(simulator, desk) as (_, opened):
            assert opened.session["instructions"] == "Be brief."


NULLABLE = [("noise_reduction", {"type": "near_field"}), ("transcription", {"model": "whisper-1"})]


@pytest.mark.parametrize(("field", "value"), NULLABLE)
async def test_null_turns_off_what_can_be_turned_off(
    simulator: RealtimeSimulator, field: str, value: dict[str, str]
) -> None:
    async with call_to(simulator.url) as desk:
        await desk.ready()
        opened = await simulator.wait_for_session()
        for given in (value, None):
            assert (await change(desk, {"audio": {"input": {field: given}}})).status == 200
            assert opened.session["audio"]["input"].get(field) == given
        async with next_session(simulator, desk) as (_, opened):
            assert opened.session["audio"]["input"].get(field) is None


async def test_a_part_of_turn_detection_keeps_the_rest(simulator: RealtimeSimulator) -> None:
    async with call_to(simulator.url, openai_turn_detection_silence_ms=700) as desk:
        await desk.ready()
        opened = await simulator.wait_for_session()
        for part in ({"threshold": 0.7}, {"prefix_padding_ms": 200}):
            assert (await change(desk, {"audio": {"input": {"turn_detection": part}}})).status == 200
        wanted = {"type": "server_vad", "threshold": 0.7, "silence_duration_ms": 700, "prefix_padding_ms": 200}
        assert wanted.items() <= opened.session["audio"]["input"]["turn_detection"].items()
        async with next_session(simulator, desk) as (_, opened):
            assert wanted.items() <= opened.session["audio"]["input"]["turn_detection"].items()


# Tools


async def test_tools_are_added_to_those_that_are_there(simulator: RealtimeSimulator) -> None:
    async with call_to(simulator.url, openai_session={"tools": [{"type": "function", "name": "first"}]}) as desk:
        await desk.ready()
        opened = await simulator.wait_for_session()
        assert (await change(desk, {"tools": [FUNCTION]})).status == 200
        assert sorted(names(opened)) == ["avr_hangup", "avr_transfer", "first", "look_up"]
        assert (await change(desk, {"tools": [MCP]})).status == 200
        assert sorted(names(opened)) == ["avr_hangup", "avr_transfer", "crm", "first", "look_up"]
        async with next_session(simulator, desk) as (following, second):
            assert sorted(names(second)) == ["avr_hangup", "avr_transfer", "crm", "first", "look_up"]
            await change(following, {"instructions": "Be brief."})
            async with next_session(simulator, following, number=3) as (_, third):
                assert sorted(names(third)) == ["avr_hangup", "avr_transfer", "crm", "first", "look_up"]
                assert third.session["instructions"] == "Be brief."


async def test_a_tool_of_the_same_name_is_replaced(simulator: RealtimeSimulator) -> None:
    async with call_to(simulator.url) as desk:
        await desk.ready()
        opened = await simulator.wait_for_session()
        for description in ("Looks up", "Looks up faster"):
            assert (await change(desk, {"tools": [FUNCTION | {"description": description}]})).status == 200
            (tool,) = [tool for tool in opened.session["tools"] if tool.get("name") == "look_up"]
            assert tool["description"] == description
        async with next_session(simulator, desk) as (_, opened):
            (tool,) = [tool for tool in opened.session["tools"] if tool.get("name") == "look_up"]
            assert tool["description"] == "Looks up faster"


DESCRIPTION = "Transfers to sales, extension 600, and nowhere else."


def transfer_of(opened: SimulatedSession) -> dict[str, Any]:
    (tool,) = [tool for tool in opened.session["tools"] if tool.get("name") == "avr_transfer"]
    return dict(tool)


async def test_a_built_in_tool_is_described_otherwise_and_stays(simulator: RealtimeSimulator) -> None:
    described = {"type": "function", "name": "avr_transfer", "description": DESCRIPTION}
    async with call_to(simulator.url) as desk:
        await desk.ready()
        first = await simulator.wait_for_session()
        before = transfer_of(first)
        assert (await change(desk, {"tools": [described]})).status == 200
        assert transfer_of(first) == before | {"description": DESCRIPTION}
        async with next_session(simulator, desk) as (_, second):
            assert transfer_of(second) == before | {"description": DESCRIPTION}
            assert sorted(names(second)) == ["avr_hangup", "avr_transfer"]


async def test_a_tool_of_a_call_is_in_the_session_once(simulator: RealtimeSimulator) -> None:
    config = {"tools": [{"name": "avr_transfer", "description": DESCRIPTION}, FUNCTION]}
    async with call_to(simulator.url) as desk, begun(Desk(desk.shared, provider_config=config)) as other:
        await other.ready()
        opened = next(each for each in simulator.sessions if "look_up" in names(each))
        assert sorted(names(opened)) == ["avr_hangup", "avr_transfer", "look_up"]
        assert transfer_of(opened)["description"] == DESCRIPTION
        assert transfer_of(opened)["parameters"]["required"] == ["transfer_extension"]

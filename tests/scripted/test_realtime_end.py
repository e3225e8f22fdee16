"""The scripted Realtime end, seen by a client of the Realtime API."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.scenarios.tones import loudest, tone
from tests.scripted.realtime_end import GREETING_HZ, RealtimeEnd, Refusal, Script
from tests.scripted.service import tones


@pytest.fixture
async def realtime() -> AsyncIterator[RealtimeEnd]:
    async with RealtimeEnd() as realtime:
        yield realtime


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as http:
        yield http


def _connect(http: aiohttp.ClientSession, realtime: RealtimeEnd, key: str = "sk-one") -> Any:
    return http.ws_connect(realtime.url, headers={"Authorization": f"Bearer {key}"})


async def _until(socket: aiohttp.ClientWebSocketResponse, kind: str) -> list[dict[str, Any]]:
    """Events up to the first of this type."""
    events: list[dict[str, Any]] = []
    while not events or events[-1]["type"] != kind:
        events.append(await socket.receive_json(timeout=10))
    return events


async def test_session_update_is_merged_and_echoed(realtime: RealtimeEnd, http: aiohttp.ClientSession) -> None:
    async with _connect(http, realtime) as socket:
        assert (await socket.receive_json())["type"] == "session.created"
        for session in ({"instructions": "One."}, {"audio": {"output": {"voice": "cedar"}}}):
            await socket.send_json({"type": "session.update", "session": {"type": "realtime", **session}})
            updated = (await _until(socket, "session.updated"))[-1]["session"]
        assert updated["instructions"] == "One."
        assert updated["audio"] == {"output": {"voice": "cedar"}}


async def test_greeting_is_a_tone_and_comes_once(realtime: RealtimeEnd, http: aiohttp.ClientSession) -> None:
    async with _connect(http, realtime) as socket:
        await socket.send_json({"type": "response.create"})
        events = await _until(socket, "response.done")
        deltas = [event["delta"] for event in events if event["type"] == "response.output_audio.delta"]
        pcm = b"".join(base64.b64decode(delta) for delta in deltas)
        assert loudest(pcm, rate_hz=24_000) == pytest.approx(GREETING_HZ, abs=5)
        session = await realtime.session("sk-one")
        await socket.send_json({"type": "response.create"})
        await session.request(2)
        session.send_raw('{"type": "last"}')
        assert len(await _until(socket, "last")) == 1


async def test_items_follow_the_conversation(realtime: RealtimeEnd, http: aiohttp.ClientSession) -> None:
    async with _connect(http, realtime) as socket:
        session = await realtime.session("sk-one")
        turn = session.turn("Hi")
        content = [{"type": "input_text", "text": "[A note]"}]
        item = {"type": "message", "role": "user", "id": "note", "content": content}
        await socket.send_json({"type": "conversation.item.create", "item": item})
        events = await _until(socket, "conversation.item.done")
        assert events[-1]["previous_item_id"] == turn
        assert session.notes == ["[A note]"]
        await socket.send_json({"type": "conversation.item.delete", "item_id": turn})
        await _until(socket, "conversation.item.deleted")
        assert session.items == ["note"]
        assert session.deleted == [turn]


async def test_handshakes_are_refused_by_script(realtime: RealtimeEnd, http: aiohttp.ClientSession) -> None:
    realtime.scripts["sk-one"] = Script(refusals=[Refusal(503)])
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await _connect(http, realtime)
    async with _connect(http, realtime), _connect(http, realtime, "sk-two"):
        counts = {key: len(times) for key, times in realtime.handshakes.items()}
        assert counts == {"sk-one": 2, "sk-two": 1}


def test_tones_are_told_apart() -> None:
    assert tones(tone(400, 0.2) + bytes(3200) + tone(900, 0.1) + tone(1200, 0.3)) == [400, 900, 1200]
    assert tones(bytes(16_000)) == []

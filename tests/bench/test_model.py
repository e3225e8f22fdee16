from __future__ import annotations

import asyncio
import binascii
from typing import Any

import orjson
from websockets.asyncio.client import ClientConnection, connect

from tests.bench import sound
from tests.bench.frames import FrameReader
from tests.bench.model import APPEND_HEAD, APPEND_TAIL, NAME, Model, Session
from tests.bench.service import Peer
from tests.simulator.validation import validate_server_event
from worker.audio.audio_format import for_format


async def event(client: ClientConnection) -> dict[str, Any]:
    read: dict[str, Any] = orjson.loads(await client.recv())
    return read


async def test_session_sends_the_events_of_the_api() -> None:
    model = await Peer.start("tests.bench.model", "pcm")
    try:
        async with asyncio.timeout(20), connect(f"ws://127.0.0.1:{await model.line()}/v1/realtime") as client:
            assert (await event(client))["type"] == "session.created"
            session = {"type": "realtime", "instructions": f"{NAME}3"}
            await client.send(orjson.dumps({"type": "session.update", "session": session}).decode())
            assert (await event(client))["session"] == session
            await client.send('{"type":"response.create"}')
            said: list[dict[str, Any]] = []
            while not said or said[-1]["type"] != "response.done":
                said.append(await event(client))
                validate_server_event(said[-1])
            deltas = [each["delta"].encode() for each in said if each["type"] == "response.output_audio.delta"]
            assert deltas == list(sound.deltas("pcm", 3))
            uplink = for_format("pcm").uplink()
            for frame in sound.caller_frames(3)[:12]:
                await client.send((APPEND_HEAD + _base64(uplink.encode(frame)) + APPEND_TAIL).decode())
            await client.send((APPEND_HEAD + _base64(bytes(960)) + APPEND_TAIL).decode())
            await client.close()
        (report,) = await model.report()
    finally:
        await model.kill()
    assert (report["call"], report["frames"], report["appends"], report["broken"]) == (3, 13, 13, 1)
    # Every tenth frame is timed, and every delta.
    assert len(report["arrived_seconds"]) == 2
    assert len(report["sent_seconds"]) == sound.DELTAS


async def test_callers_turn_has_the_events_of_the_api() -> None:
    sent: list[bytes] = []

    class Transport(asyncio.Transport):
        def write(self, data: Any) -> None:
            sent.append(data)

    session = Session(Model("pcmu"))
    session._transport = Transport()
    session._speech_started()
    session._speech_stopped()
    session._transcribed(1)
    session.connection_lost(None)
    kinds = [
        orjson.loads(line)["type"]
        for line in _payloads(b"".join(sent))
        if validate_server_event(orjson.loads(line))
    ]
    assert kinds == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
        "conversation.item.input_audio_transcription.completed",
    ]


def _base64(data: bytes) -> bytes:
    return binascii.b2a_base64(data, newline=False)


def _payloads(data: bytes) -> list[bytes]:
    payloads: list[bytes] = []
    FrameReader(lambda _, payload: payloads.append(payload)).feed(data)
    return payloads

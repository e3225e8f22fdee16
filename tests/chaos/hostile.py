"""Hostile connections of cores, beside the callers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import struct
import uuid as uuids
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import orjson

from tests.chaos.instructions_service import HOSTILE

INIT_BYTES: Final = 62_000
# Limits: 64 KiB for a message, and 512 characters for metadata.
_METADATA_CHARS: Final = 512
_CONNECT_SECONDS: Final = 5.0
_DEEP_LEVELS: Final = (150, 300, 900, 20_000)

# The callers' instructions have these placeholders, so the service opens a session.
_CONVERSATION: Final = (("tool_turn", "999"), ("hang_up_turn", "999"))

_MASK: Final = b"\1\2\3\4"


@dataclass(frozen=True, slots=True)
class Attack:
    """The data that one hostile connection sends.

    Attributes:
        messages: WebSocket messages.
        metadata: query parameters of the URL.
        raw: bytes after the upgrade and the messages; they need not be WebSocket frames.
        uuid: uuid in its `init`; empty without one.
    """

    name: str
    messages: Sequence[str] = ()
    metadata: tuple[tuple[str, str], ...] = _CONVERSATION
    raw: bytes = b""
    uuid: str = ""


def attacks(rng: random.Random, victim: str) -> list[Attack]:
    """Return one attack of each kind, in any order; one uses the key of a caller's memory as its uuid."""
    every = [make(rng, victim) for make in _ATTACKS]
    rng.shuffle(every)
    return every


def stranger(rng: random.Random) -> Attack:
    """Return a harmless call, of which a dispatcher and a worker write log lines."""
    uuid = _any_uuid(rng)
    return Attack("stranger", [_init(uuid)], uuid=uuid)


async def carry_out(url: str, attack: Attack, seconds: float) -> None:
    """Connect, send the attack's data, and stay for this time, unless the service ends the connection."""
    timeout = aiohttp.ClientTimeout(total=_CONNECT_SECONDS)
    with contextlib.suppress(aiohttp.ClientError, ConnectionError, TimeoutError):
        if attack.raw:
            await _send_raw(url, attack, seconds)
            return
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            http.ws_connect(url, params=attack.metadata) as websocket,
        ):
            for message in attack.messages:
                await websocket.send_str(message)
            async with asyncio.timeout(seconds):
                async for _ in websocket:
                    pass


async def _send_raw(url: str, attack: Attack, seconds: float) -> None:
    parts = urlsplit(url)
    async with asyncio.timeout(_CONNECT_SECONDS):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        async with asyncio.timeout(seconds):
            head = (
                f"GET / HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            writer.write(head.encode())
            await reader.readuntil(b"\r\n\r\n")
            for message in attack.messages:
                writer.write(_frame(message.encode()))
            writer.write(attack.raw)
            await writer.drain()
            while await reader.read(65_536):
                pass
    except asyncio.IncompleteReadError:
        return  # the upgrade was refused
    finally:
        writer.close()


def _frame(payload: bytes) -> bytes:
    masked = bytes(byte ^ _MASK[index % 4] for index, byte in enumerate(payload))
    return struct.pack("!BBH", 0x81, 0x80 | 126, len(payload)) + _MASK + masked


def _init(uuid: str, **fields: object) -> str:
    return orjson.dumps({"type": "init", "uuid": uuid, **fields}).decode()


def _any_uuid(rng: random.Random) -> str:
    return str(uuids.UUID(int=rng.getrandbits(128), version=4))


def _wrong_tools(rng: random.Random, _: str) -> Attack:
    uuid = _any_uuid(rng)
    tools = [0] * (INIT_BYTES // 2 - 100)
    return Attack("wrong tools", [_init(uuid, provider_config={"tools": tools})], uuid=uuid)


def _wrong_instructions(rng: random.Random, _: str) -> Attack:
    uuid = HOSTILE + _any_uuid(rng)
    return Attack("wrong instructions", [_init(uuid)], uuid=uuid)


def _name_of_a_memory(_: random.Random, victim: str) -> Attack:
    uuid = f"{victim}:said"
    return Attack("name of a memory", [_init(uuid)], uuid=uuid)


def _deep_json(rng: random.Random, _: str) -> Attack:
    uuid = _any_uuid(rng)
    levels = rng.choice(_DEEP_LEVELS)
    deep = "[" * levels + "]" * levels
    messages = [
        f'{{"type":"init","uuid":"{uuid}","provider_config":{{"tools":{deep}}}}}',
        f'{{"type":"init","uuid":"{uuid}","provider_config":{deep}}}',
    ]
    return Attack("deep JSON", messages[rng.randrange(2) :], uuid=uuid)


def _placeholders(rng: random.Random, _: str) -> Attack:
    uuid = _any_uuid(rng)
    text = "{a}" * ((INIT_BYTES - 200) // 3)
    init = _init(uuid, provider_config={"instructions": text})
    return Attack("placeholders", [init], (("a", "x" * _METADATA_CHARS), *_CONVERSATION), uuid=uuid)


def _bad_frames(rng: random.Random, _: str) -> Attack:
    uuid = _any_uuid(rng)
    raw = rng.choice(
        (
            b"\x81\x05hello",  # not masked
            b"\xf1\x80" + _MASK,  # reserved bits
            b"\x81\xff" + b"\xff" * 8 + _MASK,  # the largest length
            b"\x81\x82" + _MASK + b"\xfe\xfd",  # no UTF-8
            b"\x09\x80" + _MASK,  # a ping in pieces
            os.urandom(4096),
        )
    )
    return Attack("bad frames", [_init(uuid)] if rng.random() < 0.5 else [], raw=raw, uuid=uuid)


_ATTACKS: Final[Sequence[Callable[[random.Random, str], Attack]]] = (
    _wrong_tools,
    _wrong_instructions,
    _name_of_a_memory,
    _deep_json,
    _placeholders,
    _bad_frames,
)

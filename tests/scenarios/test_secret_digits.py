"""A tool collects keys that no model, log, Redis or kept audio gets: real processes, real tones."""

from __future__ import annotations

import signal
import wave
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import orjson
import pytest
import redis.asyncio as aioredis

from simulator.avr import dtmf
from simulator.avr.core import SimulatedCall, place_call
from simulator.realtime.server import RealtimeSimulator
from simulator.realtime.simulated_session import SimulatedSession
from tests.goertzel import keys_in
from tests.helpers import eventually, needed_program
from tests.scenarios.processes import PATIENCE_SECONDS, Cluster
from tests.scenarios.test_recovery import process_of

PROMPT = "Please enter your number"
# Long enough to be in no time stamp or id by chance.
FIRST, SECOND = "7391462", "5803169"
DIGITS = FIRST + SECOND
# The words of this caller are tones of keys, with which the tests see that the detector finds tones on that way.
FIRST_WORD = dtmf.tone("5", 0.8)
SECOND_WORD = dtmf.tone("8", 0.8)

IN_PYTHON = """
name = "ask"

async def handler(uuid, args):
    for _ in range(2):
        try:
            entry = await digits.entry("Please enter your number", 14, 20)
        except digits.Lost:
            continue
        return "accepted" if entry.digits == "73914625803169" else f"wrong, after {entry.ended_by}"
"""
IN_JAVASCRIPT = """
module.exports = {
  name: "ask",
  handler: async (uuid, args) => {
    const number = await digits("Please enter your number", 14, 20);
    return number === "73914625803169" ? "accepted" : "wrong";
  },
};
"""
GIVES_UP = """
name = "ask"

async def handler(uuid, args):
    try:
        await digits("Please enter your number", 14, 20)
    except digits.Lost:
        return "lost"
"""
BEHAVIOUR = {"greeting_words": 1, "words": 1, "tool_calls": [{"turn": 1, "name": "ask", "arguments": "{}"}]}


class Service:
    """A cluster whose model calls the tool `ask` at the caller's first word."""

    def __init__(self, cluster: Cluster, simulator: RealtimeSimulator, redis_url: str, folder: Path) -> None:
        self.cluster = cluster
        self._folder = folder
        self.simulator = simulator
        self._redis_url = redis_url

    async def asked(self) -> tuple[SimulatedCall, SimulatedSession]:
        """Place a call, and return when its caller has heard the tool's prompt."""
        others = [await self.cluster.url(number) for number in range(1, len(self.cluster.dispatchers))]
        call = await place_call(
            await self.cluster.url(), reconnect_seconds=PATIENCE_SECONDS, reconnect_urls=others
        )
        await call.wait_for(lambda c: c.transcripts, timeout_seconds=PATIENCE_SECONDS)
        session = await self.simulator.wait_for_session(self.simulator.opened)
        await call.say(FIRST_WORD)
        await prompted(call, 1)
        return call, session

    async def left_behind(self) -> tuple[dict[str, Any], bytes]:
        """Return the record of a call that has ended, and the caller's channel of its recording."""
        records = self._folder / "records"

        def lines() -> list[bytes]:
            return [line for path in records.iterdir() for line in path.read_bytes().splitlines()]

        await eventually(lines, PATIENCE_SECONDS)
        (record,) = [orjson.loads(line) for line in lines()]
        (segment,) = record["recording"]
        path = self._folder / "recordings" / segment["file"]

        def caller() -> bytes:
            with wave.open(str(path)) as reader:
                stereo = np.frombuffer(reader.readframes(reader.getnframes()), "<i2")
            return stereo[::2].tobytes()

        # The record's length is rounded to a millisecond.
        await eventually(lambda: len(caller()) >= (segment["seconds"] - 0.001) * 16_000, PATIENCE_SECONDS)
        return record, caller()

    async def is_clean(self, *parts: str) -> None:
        """Check that no log, no key or value in Redis, and no answer of an API has these digits."""
        assert self.cluster.logs
        known = self.cluster.logs + await self._in_redis() + await self._in_apis()
        for part in parts:
            assert part not in known

    async def _in_redis(self) -> str:
        found: list[object] = []
        async with aioredis.Redis.from_url(self._redis_url) as client:
            async for key in client.scan_iter():
                match await client.type(key):
                    case b"string":
                        found += [key, await client.get(key)]
                    case b"hash":
                        found += [key, await client.hgetall(key)]
                    case b"list":
                        found += [key, await client.lrange(key, 0, -1)]
                    case b"set":
                        found += [key, await client.smembers(key)]
                    case b"zset":
                        found += [key, await client.zrange(key, 0, -1)]
                    case kind:
                        raise AssertionError(f"{key!r} is a {kind!r}")
        assert found
        return repr(found)

    async def _in_apis(self) -> str:
        found = ""
        number = next(at for at, each in enumerate(self.cluster.dispatchers) if each.returncode is None)
        url = await self.cluster.admin_url(number)
        async with aiohttp.ClientSession() as http:
            calls = f"{url}/calls"
            async with http.get(calls) as response:
                listed = await response.json()
            found += str(listed)
            for each in listed:
                async with http.get(f"{calls}/{each['uuid']}") as response:
                    found += await response.text()
            async with http.get(f"{url}/metrics") as response:
                metrics = await response.text()
        # Values of metrics are numbers, which may have any digits.
        return found + "\n".join(line.rpartition(" ")[0] for line in metrics.splitlines())


Start = Callable[..., Awaitable[Service]]


@pytest.fixture
async def start(real_redis_url: str, tmp_path: Path, simulator: RealtimeSimulator) -> AsyncIterator[Start]:
    """Return a function that starts a service with one tool, which logs and records all it can."""
    folder = tmp_path / "left"
    for name in ("records", "recordings"):
        (folder / name).mkdir(parents=True)
    async with AsyncExitStack() as stack:

        async def start(file: str, source: str, *, dispatchers: int = 1) -> Service:
            (tmp_path / file).write_text(source)
            settings = {
                "TOOLS_DIR": tmp_path,
                "OPENAI_INSTRUCTIONS": f"simulator: {orjson.dumps(BEHAVIOUR).decode()}",
                "LOG_LEVEL": "debug",
                "RECORDINGS_DIR": folder / "recordings",
                "CALL_RECORDS_DIR": folder / "records",
                "CALL_RECORDS_TEXT": "true",
            }
            cluster = await stack.enter_async_context(Cluster(real_redis_url, simulator.url, **settings))
            await cluster.start(workers=2, dispatchers=dispatchers)
            return Service(cluster, simulator, real_redis_url, folder)

        yield start


async def prompted(call: SimulatedCall, times: int) -> None:
    """Wait until the caller has been asked so often."""

    def is_asked(call: SimulatedCall) -> bool:
        return sum(PROMPT in each.text for each in call.transcripts) >= times

    await call.wait_for(is_asked, timeout_seconds=PATIENCE_SECONDS)


async def output(session: SimulatedSession) -> str:
    """Wait for the tool's output, as the model has it."""
    await session.wait_for(
        lambda s: any(item.type == "function_call_output" for item in s.items), timeout_seconds=PATIENCE_SECONDS
    )
    return next(item.output or "" for item in session.items if item.type == "function_call_output")


async def heard(session: SimulatedSession, keys: str) -> None:
    """Wait until the model has got the tones of these keys, and check that it got no others."""
    await session.wait_for(
        lambda s: s.received_audio and keys_of(s).endswith(keys[-1]), timeout_seconds=PATIENCE_SECONDS
    )
    assert keys_of(session) == keys


def keys_of(session: SimulatedSession) -> str:
    """Return the keys whose tones are in what the model got."""
    return keys_in(session.received_audio, rate_hz=24_000)


def written(session: SimulatedSession) -> str:
    """Return all that the model got in writing."""
    return repr(session.items) + repr(session.client_events)


async def _collects(service: Service) -> None:
    call, session = await service.asked()
    await call.press(FIRST, audible=True)
    await service.is_clean(FIRST)
    await call.press(SECOND, audible=True)
    assert await output(session) == "accepted"
    # The caller is heard as before.
    known = len(call.transcripts)
    await call.wait_for(lambda c: len(c.transcripts) > known, timeout_seconds=PATIENCE_SECONDS)
    await call.say(SECOND_WORD)
    await heard(session, "58")
    assert FIRST not in written(session) + repr(call.transcripts)
    await service.is_clean(FIRST, SECOND)
    assert not call.errors
    assert not call.violations
    await call.hang_up()
    record, caller = await service.left_behind()
    # The caller's words are in the recording, and the keys between them are not.
    assert keys_in(caller) == "58"
    assert record["keys"] == 0
    assert FIRST not in str(record["said"])
    assert SECOND not in str(record["said"])


async def test_python_tool_collects_keys_past_the_model(start: Start) -> None:
    await _collects(await start("ask.py", IN_PYTHON))


@pytest.mark.system
async def test_javascript_tool_collects_keys_past_the_model(start: Start) -> None:
    needed_program("node")
    await _collects(await start("ask.js", IN_JAVASCRIPT))


async def test_killed_worker_takes_the_keys_with_it(start: Start) -> None:
    service = await start("ask.py", IN_PYTHON)
    call, _ = await service.asked()
    await call.press(FIRST, audible=True)
    (await process_of(service.cluster, call)).signal(signal.SIGKILL)
    # The caller notices nothing, and goes on.
    await call.press(SECOND + "#", audible=True)
    session = await service.simulator.wait_for_session(2)
    assert "outcome unknown" in await output(session)
    await eventually(lambda: _is_heard(call, session), PATIENCE_SECONDS)
    assert keys_of(session) == "8" * len(keys_of(session))
    assert FIRST not in written(session)
    assert SECOND not in written(session)
    assert "#" not in written(session)
    await service.is_clean(FIRST, SECOND)
    await call.hang_up()


def _is_heard(call: SimulatedCall, session: SimulatedSession) -> bool:
    """Return whether the model has heard the caller's second word, which the caller repeats until then."""
    if not call.microphone.has_speech:
        call.microphone.say(SECOND_WORD + bytes(16_000))
    return keys_of(session).endswith("8")


async def test_lost_session_tells_the_tool_which_asks_again(start: Start) -> None:
    service = await start("ask.py", IN_PYTHON)
    call, session = await service.asked()
    await call.press(FIRST, audible=True)
    session.drop()
    # The caller goes on, and stops when the tool asks again.
    await call.press(SECOND, audible=True)
    await prompted(call, 2)
    await call.press(DIGITS, audible=True)
    following = await service.simulator.wait_for_session(2)
    assert await output(following) == "accepted"
    assert keys_of(session) == "5"
    assert keys_of(following) == ""
    await service.is_clean(FIRST, SECOND)
    await call.hang_up()


async def test_dispatcher_that_takes_the_caller_over_has_no_keys(start: Start) -> None:
    service = await start("ask.py", GIVES_UP, dispatchers=2)
    call, session = await service.asked()
    await call.press(FIRST, audible=True)
    await service.cluster.dispatchers[0].kill()
    # The caller comes back at the other dispatcher, and goes on: these keys have no receiver.
    await call.press(SECOND + "#", audible=True)
    assert call.outages
    assert await output(session) == "lost"
    await eventually(lambda: _is_heard(call, session), PATIENCE_SECONDS)
    assert set(keys_of(session)) == {"5", "8"}
    assert SECOND not in written(session)
    assert "pressed these keys" not in written(session)
    await service.is_clean(FIRST, SECOND)
    await call.hang_up()


async def test_tool_asks_again_at_the_dispatcher_that_takes_over(start: Start) -> None:
    service = await start("ask.py", IN_PYTHON, dispatchers=2)
    call, session = await service.asked()
    await call.press(FIRST, audible=True)
    await service.cluster.dispatchers[0].kill()
    await call.press(SECOND, audible=True)
    await prompted(call, 2)
    await call.press(DIGITS, audible=True)
    assert await output(session) == "accepted"
    assert keys_of(session) == "5"
    await service.is_clean(FIRST, SECOND)
    await call.hang_up()


async def test_killed_tool_process_ends_the_mute(start: Start) -> None:
    service = await start("ask.py", IN_PYTHON)
    call, session = await service.asked()
    await call.press(FIRST, audible=True)
    worker = await process_of(service.cluster, call)
    for process in worker.family()[1:]:
        process.kill()
    await call.press(SECOND, audible=True)
    assert "interrupted" in await output(session)
    await eventually(lambda: _is_heard(call, session), PATIENCE_SECONDS)
    assert set(keys_of(session)) == {"5", "8"}
    assert SECOND not in written(session)
    await service.is_clean(FIRST, SECOND)
    await call.hang_up()

"""Many commands at once, a Redis that does not answer, and an event loop that stalls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from common.errors import RegistryBusy, RegistryUnavailable
from common.store import bounded_redis
from common.store.bounded_redis import BoundedRedis
from tests.helpers import eventually
from tests.redis_process import RealRedis, RedisProcess

LIMIT_SECONDS = 2.0
CONNECTIONS = 8


@pytest.fixture
async def client(redis_process: RedisProcess) -> AsyncIterator[BoundedRedis]:
    client = BoundedRedis.from_url(redis_process.url, timeout_seconds=LIMIT_SECONDS)
    yield client
    await client.aclose()


def script(client: BoundedRedis, folder: Path, text: str) -> Any:
    (folder / "_prelude.lua").write_text("", "utf-8")
    (folder / "script.lua").write_text(text, "utf-8")
    return client.script(folder, "script", "prefix:")


async def test_a_long_queue_is_no_outage(client: BoundedRedis, redis_process: RedisProcess) -> None:
    if not isinstance(redis_process, RealRedis):
        pytest.skip("the embedded Redis serves one blocked client at a time")
    # Each command takes 0.4 s, so the last ones wait for longer than the limit.
    took = time.monotonic()
    commands = [client.run(client.redis.blpop, f"list-{number}", 0.4) for number in range(7 * CONNECTIONS)]
    assert await asyncio.gather(*commands) == [None] * len(commands)
    assert time.monotonic() - took > LIMIT_SECONDS


async def test_waiting_commands_fail_with_the_one_that_got_no_answer(redis_process: RedisProcess) -> None:
    client = BoundedRedis.from_url(redis_process.url, timeout_seconds=0.1)
    assert await client.run(client.redis.ping)
    redis_process.freeze()
    outcomes = await asyncio.gather(*(client.run(client.redis.ping) for _ in range(1000)), return_exceptions=True)
    redis_process.thaw()
    assert {type(each) for each in outcomes} == {RegistryUnavailable}

    async def answers() -> bool:
        try:
            return bool(await client.run(client.redis.ping))
        except RegistryUnavailable:
            return False

    await eventually(answers)
    await client.aclose()


async def test_scripts_share_round_trips(client: BoundedRedis, tmp_path: Path) -> None:
    double = script(client, tmp_path, "return ARGV[1] * 2")
    answers = await asyncio.gather(*(client.evaluate(double, [number]) for number in range(500)))
    assert answers == [2 * number for number in range(500)]


async def test_scripts_that_redis_forgot_are_loaded_again(client: BoundedRedis, tmp_path: Path) -> None:
    double = script(client, tmp_path, "return ARGV[1] * 2")
    await client.run(client.redis.script_flush)
    answers = await asyncio.gather(*(client.evaluate(double, [number]) for number in range(5)))
    assert answers == [0, 2, 4, 6, 8]


async def test_a_failed_script_costs_itself_alone(client: BoundedRedis, tmp_path: Path) -> None:
    odd = script(client, tmp_path, "if ARGV[1] == '3' then return redis.error_reply('ERR no') end return ARGV[1]")
    answers = await asyncio.gather(
        *(client.evaluate(odd, [number]) for number in range(5)), return_exceptions=True
    )
    assert [str(each) for each in answers if not isinstance(each, Exception)] == ["0", "1", "2", "4"]
    (failure,) = [each for each in answers if isinstance(each, Exception)]
    assert isinstance(failure, RegistryUnavailable)


async def test_waiting_scripts_fail_when_redis_does_not_answer(
    redis_process: RedisProcess, tmp_path: Path
) -> None:
    client = BoundedRedis.from_url(redis_process.url, timeout_seconds=0.1)
    double = script(client, tmp_path, "return ARGV[1] * 2")
    assert await client.evaluate(double, [1]) == 2
    redis_process.freeze()
    outcomes = await asyncio.gather(
        *(client.evaluate(double, [number]) for number in range(1000)), return_exceptions=True
    )
    redis_process.thaw()
    assert {type(each) for each in outcomes} == {RegistryUnavailable}
    await client.aclose()


async def test_too_many_waiting_commands_are_refused(
    client: BoundedRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded_redis, "_MAX_WAITING", 10)
    commands = [client.run(client.redis.ping) for _ in range(CONNECTIONS + 11)]
    outcomes = await asyncio.gather(*commands, return_exceptions=True)
    assert outcomes.count(True) == CONNECTIONS + 10
    assert [type(each) for each in outcomes if each is not True] == [RegistryBusy]
    echo = script(client, tmp_path, "return ARGV[1]")
    replies = await asyncio.gather(*(client.evaluate(echo, ["x"]) for _ in range(11)), return_exceptions=True)
    assert [type(each) for each in replies if each != "x"] == [RegistryBusy]


async def test_a_stalled_event_loop_is_no_outage(redis_process: RedisProcess) -> None:
    client = BoundedRedis.from_url(redis_process.url, timeout_seconds=0.1)
    await client.run(client.redis.ping)
    asked = asyncio.create_task(client.run(client.redis.ping))
    await asyncio.sleep(0)  # it is sent
    time.sleep(0.3)  # noqa: ASYNC251 - the event loop stalls
    assert await asked is True
    await client.aclose()


async def test_a_cancelled_command_gives_its_turn_away(client: BoundedRedis) -> None:
    commands = [asyncio.create_task(client.run(client.redis.ping)) for _ in range(3 * CONNECTIONS)]
    await asyncio.sleep(0)
    for waiting in commands[CONNECTIONS : 2 * CONNECTIONS]:
        waiting.cancel()
    answers = await asyncio.gather(*commands, return_exceptions=True)
    assert answers.count(True) == 2 * CONNECTIONS
    assert (
        await asyncio.gather(*(client.run(client.redis.ping) for _ in range(CONNECTIONS))) == [True] * CONNECTIONS
    )

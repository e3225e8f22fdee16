"""The check of the Realtime API, in all refusals of the simulator."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from common.check.finding import Finding, State
from common.settings.roles import Role
from common.settings.settings import Settings
from simulator.realtime.server import RealtimeSimulator
from simulator.realtime.settings import SimulatorSettings
from tests.certificates import self_signed, tls_in_front_of
from worker.check import realtime_api

KEY = "sk-test-0123456789abcdefghij"


@pytest.fixture
async def simulator() -> AsyncIterator[RealtimeSimulator]:
    async with RealtimeSimulator(SimulatorSettings(api_key=KEY)) as simulator:
        yield simulator


async def look(url: str, *, seconds: float = 10.0, **variables: str) -> Finding:
    given = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": url, "REDIS_URL": "redis://127.0.0.1:1"}
    settings = Settings.parse(given | variables, Role.WORKER)
    (finding,) = await realtime_api.check(settings).run(seconds)
    assert KEY not in repr(finding)
    return finding


async def test_session_opens_and_asks_for_no_response(simulator: RealtimeSimulator) -> None:
    found = await look(simulator.url)
    assert (found.state, found.todo) == (State.OK, "")
    assert "gpt-realtime" in found.value
    await simulator.wait_for(lambda simulator: not simulator.sessions)
    assert "response.create" not in str(simulator.counters.report())


@pytest.mark.parametrize("in_band", [False, True])
async def test_wrong_key_is_named(simulator: RealtimeSimulator, in_band: bool) -> None:
    simulator.settings = dataclasses.replace(simulator.settings, bad_key_in_band=in_band)
    found = await look(simulator.url, OPENAI_API_KEY="sk-another-0123456789")
    assert found.state is State.FAIL
    assert "OPENAI_API_KEY" in found.todo
    assert "sk-another" not in repr(found)


async def test_unknown_model_is_named(simulator: RealtimeSimulator) -> None:
    simulator.settings = dataclasses.replace(simulator.settings, models=("gpt-realtime-other",))
    found = await look(simulator.url)
    assert found.state is State.FAIL
    assert "OPENAI_MODEL" in found.todo


@pytest.mark.parametrize(
    ("refusal", "todo"),
    [
        ({"status": 429, "code": "insufficient_quota"}, "add credit"),
        ({"status": None, "code": "insufficient_quota"}, "add credit"),
        ({"status": 503}, "try again later"),
        ({"status": 500}, "try again later"),
    ],
)
async def test_refusal_says_what_to_do(simulator: RealtimeSimulator, refusal: dict[str, Any], todo: str) -> None:
    simulator.faults.refuse(**refusal)
    found = await look(simulator.url)
    assert found.state is State.FAIL
    assert found.todo.startswith(todo)


async def test_silent_api_is_given_up(simulator: RealtimeSimulator) -> None:
    simulator.faults.silence()
    found = await look(simulator.url, seconds=0.5)
    assert (found.state, found.what) == (State.FAIL, "no answer within 0.5 s")


async def test_unknown_certificate_is_named(simulator: RealtimeSimulator, tmp_path: Path) -> None:
    async with tls_in_front_of(simulator.url, self_signed(tmp_path)) as port:
        found = await look(f"wss://127.0.0.1:{port}/v1/realtime")
    assert found.state is State.FAIL
    assert "SSL_CERT_FILE" in found.todo


async def test_unknown_host_is_named() -> None:
    found = await look("ws://nobody.invalid/v1/realtime", seconds=30)
    assert found.state is State.FAIL
    assert "OPENAI_BASE_URL" in found.todo

"""Calls that hold a brief conversation, and where a cluster has them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import aiohttp

from simulator.avr.core import SimulatedCall, place_call
from simulator.realtime.settings import SimulatorSettings
from tests.helpers import eventually
from tests.scenarios.processes import PATIENCE_SECONDS, Cluster, ServiceProcess, worker_id
from tests.scenarios.tones import tone

BRIEF: Final = SimulatorSettings(greeting_words=2, words=2, word_ms=200, transcription_delay_seconds=0.1)
"""A Realtime API of few words."""


async def place(cluster: Cluster, dispatcher: int = 0, others: Sequence[str] = ()) -> SimulatedCall:
    """Place a call, and return when it has been greeted."""
    url = await cluster.url(dispatcher)
    call = await place_call(url, reconnect_seconds=PATIENCE_SECONDS, reconnect_urls=others)
    await call.wait_for(lambda c: c.transcripts, timeout_seconds=PATIENCE_SECONDS)
    return call


async def converse(*calls: SimulatedCall) -> None:
    """Let each caller say something, and wait for the answers."""

    async def turn(call: SimulatedCall) -> None:
        known = len(call.transcripts)
        await call.say(tone(700, 0.6))
        await call.wait_for(lambda c: len(c.transcripts) >= known + 2, timeout_seconds=PATIENCE_SECONDS)
        assert [each.role for each in call.transcripts[known:]] == ["user", "agent"]

    await asyncio.gather(*(turn(call) for call in calls))


async def are_on(cluster: Cluster, worker: ServiceProcess, *calls: SimulatedCall) -> None:
    """Wait until a worker has all of these calls, and every dispatcher says so."""
    name = await worker_id(worker)
    wanted = {call.uuid for call in calls}

    async def is_so() -> bool:
        for number, dispatcher in enumerate(cluster.dispatchers):
            if dispatcher.returncode is None:
                async with (
                    aiohttp.ClientSession() as http,
                    http.get(f"{await cluster.admin_url(number)}/calls") as response,
                ):
                    listed = await response.json()
                if wanted - {each["uuid"] for each in listed if (each["worker"], each["state"]) == (name, "live")}:
                    return False
        return True

    await eventually(is_so, PATIENCE_SECONDS)

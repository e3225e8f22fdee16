"""The search for a worker while a pin waits: for its turn, or for a Redis that does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.dispatcher.rig import Rig
from tests.helpers import eventually


@pytest.fixture
async def rig(redis_url: str) -> AsyncIterator[Rig]:
    async with Rig(redis_url) as rig:
        yield rig


class SlowPins:
    """Pins of a dispatcher that wait for `released`, and the questions that are asked meanwhile."""

    def __init__(self, rig: Rig, monkeypatch: pytest.MonkeyPatch, *, redis_answers: bool) -> None:
        self.released = asyncio.Event()
        self.looks = 0
        self.asked_workers = 0
        pin = rig.registry.pin

        async def slow(*args: Any, **options: Any) -> Any:
            await self.released.wait()
            return await pin(*args, **options)

        def has_answered(_: float) -> bool:
            self.looks += 1
            return redis_answers

        async def holder(_: str) -> None:
            self.asked_workers += 1

        monkeypatch.setattr(rig.registry, "pin", slow)
        monkeypatch.setattr(rig.registry, "has_answered", has_answered)
        monkeypatch.setattr(rig.dispatcher.links, "holder", holder)


@pytest.mark.interpreted
async def test_pins_that_wait_for_their_turn_ask_no_workers(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.worker()
    await eventually(lambda: rig.dispatcher.is_ready)
    pins = SlowPins(rig, monkeypatch, redis_answers=True)
    core = await rig.call()
    await eventually(lambda: pins.looks >= 3)
    pins.released.set()
    await eventually(lambda: rig.state() == "live")
    assert pins.asked_workers == 0
    await core.hang_up()


@pytest.mark.interpreted
async def test_workers_are_asked_when_redis_does_not_answer(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.worker()
    await eventually(lambda: rig.dispatcher.is_ready)
    pins = SlowPins(rig, monkeypatch, redis_answers=False)
    core = await rig.call()
    await eventually(lambda: pins.asked_workers)
    pins.released.set()
    await eventually(lambda: rig.state() == "live")
    await core.hang_up()

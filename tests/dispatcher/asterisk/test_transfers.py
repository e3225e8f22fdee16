"""Which calls that cannot go on may be transferred."""

from __future__ import annotations

import pytest

from common.store.keys import KEY_PREFIX
from common.store.registry import Registry
from dispatcher.asterisk import transfers
from dispatcher.asterisk.transfers import AGAIN_SECONDS, MAX_CALLERS, TRANSFERS_AT_ONCE, Transfers

NOWHERE = "redis://127.0.0.1:9"
AGAIN = f"this caller was transferred within the last {AGAIN_SECONDS} s"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_the_rate_is_bounded() -> None:
    clock = Clock()
    guard = Transfers(Registry.from_url(NOWHERE), clock=clock)
    allowed = [await guard.refusal("") is None for _ in range(20)]
    assert sum(allowed) == TRANSFERS_AT_ONCE
    assert await guard.refusal("") == "over 2 transfers a second"
    clock.now += 0.5
    assert await guard.refusal("") is None
    assert await guard.refusal("") is not None


async def test_a_caller_is_transferred_once_without_redis() -> None:
    clock = Clock()
    guard = Transfers(Registry.from_url(NOWHERE), clock=clock)
    assert await guard.refusal("100") is None
    assert await guard.refusal("200") is None
    assert await guard.refusal("100") == AGAIN
    clock.now += AGAIN_SECONDS
    assert await guard.refusal("100") is None


async def test_a_second_try_costs_no_transfer_of_the_rate() -> None:
    clock = Clock()
    guard = Transfers(Registry.from_url(NOWHERE), clock=clock)
    for _ in range(100):
        await guard.refusal("100")
    assert await guard.refusal("200") is None


async def test_callers_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    guard = Transfers(Registry.from_url(NOWHERE), clock=clock)
    for number in range(MAX_CALLERS + 5):
        clock.now += 1.0
        assert await guard.refusal(str(number)) is None
    assert len(guard._callers) == MAX_CALLERS


async def test_dispatchers_share_what_they_know(redis_url: str) -> None:
    one, two = Registry.from_url(redis_url), Registry.from_url(redis_url)
    try:
        assert await Transfers(one).refusal("100") is None
        assert await Transfers(two).refusal("100") == AGAIN
        assert await Transfers(two).refusal("200") is None
        # Under another secret the same number is another name.
        assert await Transfers(two, "a-secret-of-the-cluster").refusal("100") is None
    finally:
        await one.aclose()
        await two.aclose()


async def test_no_number_is_stored(redis_url: str) -> None:
    registry = Registry.from_url(redis_url)
    try:
        await Transfers(registry).refusal("+390612345678")
        keys = [key async for key in registry._redis.scan_iter()]
        assert len(keys) == 1
        assert keys[0].startswith(f"{KEY_PREFIX}claim:")
        assert "390612345678" not in keys[0]
        assert 0 < await registry._redis.ttl(keys[0]) <= transfers.AGAIN_SECONDS
    finally:
        await registry.aclose()

"""One-time tickets, with a real registry."""

from __future__ import annotations

import pytest

from common.store.registry import Registry
from dispatcher.api.commands import CommandError
from dispatcher.api.tickets import TICKETS_AT_ONCE, Tickets


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


async def test_a_ticket_is_redeemed_once(registry: Registry) -> None:
    tickets = Tickets(registry)
    ticket = await tickets.issue()
    assert await tickets.redeem(ticket)
    assert not await tickets.redeem(ticket)
    assert not await tickets.redeem("a-guess")


async def test_redis_knows_no_ticket(registry: Registry) -> None:
    ticket = await Tickets(registry).issue()
    keys = await registry._redis.keys("*")
    assert keys
    assert not any(ticket in str(key) for key in keys)


async def test_a_dispatcher_issues_a_bounded_number(registry: Registry) -> None:
    clock = Clock()
    tickets = Tickets(registry, clock=clock)
    for _ in range(int(TICKETS_AT_ONCE)):
        await tickets.issue()
    with pytest.raises(CommandError) as refused:
        await tickets.issue()
    assert refused.value.status == 429
    clock.seconds += 2
    await tickets.issue()

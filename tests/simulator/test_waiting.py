from __future__ import annotations

import asyncio

import pytest

from simulator.waiting import Waiter, settle, wait_until


async def test_condition_already_true_needs_no_wait() -> None:
    await wait_until([], lambda subject: subject == [1], [1], timeout_seconds=0)


async def test_change_wakes_only_the_waiters_it_satisfies() -> None:
    waiters: list[Waiter[list[int]]] = []
    subject: list[int] = []
    first = asyncio.ensure_future(wait_until(waiters, lambda s: len(s) >= 1, subject, 5))
    second = asyncio.ensure_future(wait_until(waiters, lambda s: len(s) >= 2, subject, 5))
    await asyncio.sleep(0)  # both are waiting now
    subject.append(1)
    settle(waiters, subject)
    await first
    assert not second.done()
    subject.append(2)
    settle(waiters, subject)
    await second
    assert waiters == []


async def test_a_wait_ends_in_time_and_leaves_nothing_behind() -> None:
    waiters: list[Waiter[str]] = []
    with pytest.raises(TimeoutError):
        await wait_until(waiters, bool, "", 0.01)
    assert waiters == []


async def test_failing_predicate_fails_its_own_wait_alone() -> None:
    waiters: list[Waiter[list[int]]] = []
    subject: list[int] = []
    wrong = asyncio.ensure_future(wait_until(waiters, lambda s: bool(s) and s[7], subject, 5))
    right = asyncio.ensure_future(wait_until(waiters, bool, subject, 5))
    await asyncio.sleep(0)  # both are waiting now
    subject.append(1)
    settle(waiters, subject)
    with pytest.raises(IndexError):
        await wrong
    await right

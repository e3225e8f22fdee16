"""Waiting for a state instead of for a time: predicates that are asked whenever something has happened."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

T = TypeVar("T")

Waiter = tuple[Callable[[T], Any], asyncio.Future[None]]


async def wait_until(
    waiters: list[Waiter[T]], predicate: Callable[[T], Any], subject: T, timeout_seconds: float
) -> None:
    """Wait until `predicate(subject)` is true.

    Raises:
        TimeoutError: it did not become true.
        Exception: what the predicate raised.
    """
    if predicate(subject):
        return
    waiter = (predicate, asyncio.get_running_loop().create_future())
    waiters.append(waiter)
    try:
        async with asyncio.timeout(timeout_seconds):
            await waiter[1]
    finally:
        waiters.remove(waiter)


def settle(waiters: Iterable[Waiter[T]], subject: T) -> None:
    """Ask the predicates again; to be called after every change of `subject`."""
    for predicate, future in waiters:
        if future.done():
            continue
        try:
            if predicate(subject):
                future.set_result(None)
        except Exception as error:
            # It is the waiting test's mistake, not that of the connection that happens to ask.
            future.set_exception(error)

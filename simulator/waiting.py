"""Waits for a state instead of a time: predicates that are called after each event."""

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
        TimeoutError: the predicate stayed false.
        Exception: the predicate raised it.
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
    """Call the predicates again; owners call this after each change of `subject`."""
    for predicate, future in waiters:
        if future.done():
            continue
        try:
            if predicate(subject):
                future.set_result(None)
        except Exception as error:
            # The error belongs to the waiting test, not to the connection on which the predicate is called.
            future.set_exception(error)

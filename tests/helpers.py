"""What tests of every package use."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable

_POLL_SECONDS = 0.01


async def eventually(predicate: Callable[[], object], timeout_seconds: float = 5) -> None:
    """Wait until `predicate`, a function or a coroutine function, returns something true.

    Raises:
        AssertionError: it did not within `timeout_seconds`.
    """
    last: object = None
    try:
        async with asyncio.timeout(timeout_seconds):
            while True:
                last = predicate()
                if inspect.isawaitable(last):
                    last = await last
                if last:
                    return
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        name = getattr(predicate, "__qualname__", repr(predicate))
        raise AssertionError(f"{name} was not true within {timeout_seconds} s: last {last!r}") from None

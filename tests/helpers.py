"""What tests of every package use."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import shutil
from collections.abc import Callable

import pytest

_POLL_SECONDS = 0.01

# Not a measure of anything: how long a test waits before it says that something does not happen at all.
_PATIENCE_SECONDS = 30.0


async def eventually(predicate: Callable[[], object], timeout_seconds: float = _PATIENCE_SECONDS) -> None:
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


def send_signals(process: asyncio.subprocess.Process, number: int, times: int) -> None:
    """Send a signal several times to a process that may end at the first one.

    asyncio's own `send_signal` reaps a process that has ended, and the exit status is lost: asyncio then says 255.
    """
    with contextlib.suppress(ProcessLookupError):
        for _ in range(times):
            os.kill(process.pid, number)


def needed(found: str | None, message: str) -> str:
    """Return what was found; missing, it skips a test here, and fails it in CI."""
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


def needed_program(name: str) -> str:
    """Return a program of `.ci/packages`, as `needed` does."""
    # Only root has Debian's place for servers on the PATH.
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    return needed(found, f"{name} is missing: install the packages of .ci/packages")

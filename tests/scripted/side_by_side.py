"""Runs the tests of a module side by side: most of a call is waiting, and no call knows of the others."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any

import pytest

from tests.scripted.service import ScriptedService

# More calls at once would make a small machine late.
CONCURRENT_TESTS = 12

Body = Callable[..., Awaitable[None]]


def side_by_side(body: Body) -> Body:
    """Make a test of `async def test_...(service, ...)`; its other arguments come from `parametrize` alone.

    The module needs the fixture `together`, and `loop_scope="module"`.
    """

    async def test(together: SideBySide, request: pytest.FixtureRequest, **_: Any) -> None:
        await together.result(request.node.nodeid)

    # pytest reads names and arguments from these.
    test.__name__, test.__qualname__, test.__module__ = body.__name__, body.__qualname__, body.__module__
    kind = inspect.Parameter.KEYWORD_ONLY
    names = [*inspect.signature(body).parameters][1:]
    parameters = [inspect.Parameter(name, kind) for name in ("together", "request", *names)]
    test.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    test.body = body  # type: ignore[attr-defined]
    return test


class SideBySide:
    """The selected tests of a module, all started, a bounded number at a time."""

    def __init__(self, service: ScriptedService, module: ModuleType, items: list[pytest.Item]) -> None:
        self._service = service
        self._places = asyncio.Semaphore(CONCURRENT_TESTS)
        self._running = {
            item.nodeid: asyncio.create_task(self._run(item), name=item.nodeid)
            for item in items
            if isinstance(item, pytest.Function) and item.module is module and hasattr(item.function, "body")
        }

    async def result(self, nodeid: str) -> None:
        """Wait for a test; raises what the test raised."""
        await self._running[nodeid]

    async def stop(self) -> None:
        """Stop the tests whose results are not needed any more."""
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _run(self, item: pytest.Function) -> None:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        async with self._places, self._service.own_calls():
            await item.function.body(self._service, **parameters)

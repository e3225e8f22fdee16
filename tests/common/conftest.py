"""Tests of what sits on the event loop run on both: uvloop's, which the service uses, and asyncio's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.common.speaker import Speaker

_ON_BOTH_LOOPS = {"test_listener.py", "test_websocket.py", "test_websocket_handshake.py", "test_link_end.py"}


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    factories = {"asyncio": asyncio.new_event_loop}
    if item.path.name in _ON_BOTH_LOOPS:
        factories["uvloop"] = uvloop.new_event_loop
    return factories


@pytest.fixture
async def loop_failures() -> AsyncIterator[list[dict[str, Any]]]:
    """Yield the errors that the event loop reported; fail a test that does not remove them."""
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    yield failures
    await asyncio.sleep(0)
    assert failures == []


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Speaker]]:
    """Starts a process with metrics, by the name of its slot; with none, one that shares nothing."""
    speakers: list[Speaker] = []

    def start(name: str | None = None) -> Speaker:
        speakers.append(Speaker(*([] if name is None else [str(tmp_path), name])))
        return speakers[-1]

    yield start
    for speaker in speakers:
        speaker.kill()

from __future__ import annotations

import asyncio

import pytest
import structlog
from prometheus_client import CollectorRegistry, Counter

from common.runtime.lasting_task import repeat
from tests.helpers import eventually


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def failures(registry: CollectorRegistry) -> Counter:
    return Counter("failures", "of the test", registry=registry)


async def test_an_exception_of_a_step_does_not_end_the_task(
    registry: CollectorRegistry, failures: Counter
) -> None:
    steps = 0

    async def step() -> None:
        nonlocal steps
        steps += 1
        await asyncio.sleep(0)
        if steps % 2:
            raise ValueError("odd")

    with structlog.testing.capture_logs() as lines:
        task = asyncio.create_task(repeat(step, task="tick", failures=failures, pause_seconds=0))
        await eventually(lambda: steps >= 10)
        task.cancel()
    assert (registry.get_sample_value("failures_total") or 0) >= 5
    # Not a line for each.
    assert [(line["event"], line["task"], line["times"]) for line in lines] == [("task step failed", "tick", 1)]


async def test_a_task_that_goes_on_failing_is_logged_again(failures: Counter) -> None:
    async def step() -> None:
        raise ValueError("odd")

    with structlog.testing.capture_logs() as lines:
        task = asyncio.create_task(repeat(step, task="tick", failures=failures, pause_seconds=0, log_seconds=0))
        await eventually(lambda: len(lines) >= 3)
        task.cancel()


async def test_a_task_that_is_cancelled_ends(registry: CollectorRegistry, failures: Counter) -> None:
    async def step() -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(repeat(step, task="tick", failures=failures, pause_seconds=0))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert registry.get_sample_value("failures_total") == 0

"""Tasks that run as long as their process: the failure of a step does not end them.

If a renewal of leases ended because of one invalid reply, its worker would disappear from Redis for good. All else
would continue, and no probe would notice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from prometheus_client import Counter

from common.observe.line_limit import LineLimit

PAUSE_SECONDS: Final = 0.1
"""Pause after a failure, because a step that fails at once must not use the whole processor."""

LOG_SECONDS: Final = 60.0
"""Minimum time between two log lines of a task that keeps failing."""

log = structlog.get_logger()


async def repeat(
    step: Callable[[], Awaitable[None]],
    *,
    task: str,
    failures: Counter,
    pause_seconds: float = PAUSE_SECONDS,
    log_seconds: float = LOG_SECONDS,
) -> None:
    """Run a step repeatedly until cancelled; its exceptions are counted and logged.

    Args:
        step: contains its own waiting time.
        task: name of the task in the log.
        failures: counts the exceptions.
        pause_seconds: time to wait after a failure.
        log_seconds: minimum time between two log lines of failures.
    """
    lines = LineLimit(log_seconds)
    while True:
        try:
            await step()
        except Exception:
            failures.inc()
            times = lines.take(task, time.monotonic())
            if times is not None:
                log.exception("task step failed", task=task, times=times)
            await asyncio.sleep(pause_seconds)

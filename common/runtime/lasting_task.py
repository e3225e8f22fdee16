"""Loops that last as long as their process: no failure of a step ends them.

A heartbeat that ends because of one odd reply takes a worker out of Redis for good, while all else goes on and no
probe sees it.
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
"""After a failure: a step that fails at once must not take the whole processor."""

LOG_SECONDS: Final = 60.0
"""Between two log lines of a task that fails again and again."""

log = structlog.get_logger()


async def repeat(
    step: Callable[[], Awaitable[None]],
    *,
    task: str,
    failures: Counter,
    pause_seconds: float = PAUSE_SECONDS,
    log_seconds: float = LOG_SECONDS,
) -> None:
    """Do a step again and again, until cancelled; what it raises is counted and logged, and the next one follows.

    Args:
        step: waits for its time itself.
        task: its name in the log.
        failures: counts what was raised.
        pause_seconds: after a failure.
        log_seconds: between two log lines of failures.
    """
    lines = LineLimit(log_seconds)
    while True:
        try:
            await step()
        except Exception:
            failures.inc()
            times = lines.take(task, time.monotonic())
            if times is not None:
                log.exception("a task failed, and goes on", task=task, times=times)
            await asyncio.sleep(pause_seconds)

"""The progress of a drain on the terminal from which the process was started: calls and seconds left."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Final

from common.observe.status_line import StatusLine

UPDATE_SECONDS: Final = 0.5


def progress(calls: int | None, seconds_left: float) -> str:
    """Return the line.

    Args:
        calls: running calls; None: their number is not known.
        seconds_left: time until the calls are disconnected.
    """
    left = "" if calls is None else f" {calls or 'no'} {'call' if calls == 1 else 'calls'} left,"
    return f"draining:{left} at most {math.ceil(max(0.0, seconds_left))} s; Ctrl-C again ends now"


async def show_drain(line: StatusLine, deadline: float, calls: Callable[[], int | None]) -> None:
    """Show the progress until cancelled, then remove the line.

    Args:
        line: where it is shown.
        deadline: the end of the drain, on `time.monotonic`.
        calls: counts the running calls, in a thread.
    """
    try:
        while line.is_on_terminal:
            left = await asyncio.to_thread(calls)
            line.show(progress(left, deadline - time.monotonic()))
            await asyncio.sleep(UPDATE_SECONDS)
    finally:
        line.clear()

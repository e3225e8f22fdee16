"""CPU time of the synchronous sections of an event loop.

A section runs from one `await` to the next, and nothing else of its process runs meanwhile, audio included. The
thread's CPU time counts, because a busy machine stretches wall time.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from typing import Any


class Sections:
    """The longest sections of a measurement.

    Attributes:
        longest_ms: by the name of the section's task up to its first space or hyphen; `callbacks` for the rest.
    """

    def __init__(self) -> None:
        self.longest_ms: dict[str, float] = {}

    def add(self, handle: Any, seconds: float) -> None:
        """Add a section that an event loop's handle ran."""
        owner = getattr(handle._callback, "__self__", None)
        name = (
            owner.get_name().partition(" ")[0].partition("-")[0]
            if isinstance(owner, asyncio.Task)
            else "callbacks"
        )
        self.longest_ms[name] = max(self.longest_ms.get(name, 0.0), seconds * 1000)

    def longest(self, *names: str) -> float:
        """Return the longest section of tasks with these names, in milliseconds; without names: of all."""
        return max((ms for name, ms in self.longest_ms.items() if not names or name in names), default=0.0)


@contextlib.contextmanager
def measured() -> Iterator[Sections]:
    """Measure the sections of asyncio's own event loop until the end of the block."""
    sections = Sections()
    handle: Any = asyncio.Handle
    original = handle._run

    def run(each: asyncio.Handle) -> None:
        began = time.thread_time()
        original(each)
        sections.add(each, time.thread_time() - began)

    handle._run = run
    try:
        yield sections
    finally:
        handle._run = original

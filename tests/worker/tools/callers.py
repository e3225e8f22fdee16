"""Callers whom tools of a test ask for keys."""

from __future__ import annotations

import asyncio

from worker.tools.entries import Entry, EntryEnding, KeyRequest


class ScriptedCaller:
    """A caller who enters the same each time; without an entry, one who enters nothing.

    Attributes:
        asked: what the caller was asked.
        is_asked: set when the caller was asked.
        left: requests that were cancelled.
    """

    def __init__(self, entry: Entry | None = None) -> None:
        self.asked: list[KeyRequest] = []
        self.is_asked = asyncio.Event()
        self.left = 0
        self._entry = entry

    async def digits(self, wanted: KeyRequest) -> Entry:
        self.asked.append(wanted)
        self.is_asked.set()
        if self._entry is not None:
            return self._entry
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.left += 1
            raise
        raise AssertionError


def entered(digits: str, ending: EntryEnding = EntryEnding.COUNT) -> ScriptedCaller:
    """Return a caller who enters these keys."""
    return ScriptedCaller(Entry(ending, digits))

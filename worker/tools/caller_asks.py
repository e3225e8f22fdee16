"""The requests for keys that come from a process of tools, each answered once by an `entry`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from worker.tools.entries import Entry, EntryEnding
from worker.tools.key_requests import RunCaller

RUN_ENDED: Final = "the tool's run has ended, and its caller is not asked any more"
MAX_ASKS: Final = 256
"""Maximum number of unanswered requests of a process; as many as runs. A run asks once at a time."""

TOO_MANY: Final = f"{MAX_ASKS} requests for keys are running: try again later"


class CallerAsks:
    """The requests of one process."""

    def __init__(self, post: Callable[[dict[str, Any]], None]) -> None:
        """Begin without requests; `post` sends a message to the process."""
        self._post = post
        self._callers: dict[int, RunCaller] = {}
        self._tasks: dict[tuple[int, int], asyncio.Task[Entry]] = {}

    def begin(self, request: int, caller: RunCaller) -> None:
        """Note that a run has begun, the caller of which may be asked."""
        self._callers[request] = caller

    def end(self, request: int) -> None:
        """Note that a run has ended: keys that it still waits for are discarded."""
        self._callers.pop(request, None)
        for key, task in self._tasks.items():
            if key[0] == request:
                task.cancel()

    def ask(self, line: dict[str, Any]) -> None:
        """Take a request: {request, ask, prompt, count, timeout}."""
        request, number = int(line["request"]), int(line["ask"])
        caller = self._callers.get(request)
        if caller is None:
            self._answer(number, Entry(EntryEnding.REFUSED, message=RUN_ENDED))
        elif len(self._tasks) >= MAX_ASKS:
            self._answer(number, Entry(EntryEnding.REFUSED, message=TOO_MANY))
        else:
            asking = caller.digits(line.get("prompt"), line.get("count"), line.get("timeout"))
            task = asyncio.create_task(asking)
            self._tasks[request, number] = task
            task.add_done_callback(lambda _: self._asked(request, number, task))

    def leave(self, line: dict[str, Any]) -> None:
        """Take the end of a request for which the tool does not wait any more: {request, ask}."""
        task = self._tasks.get((int(line["request"]), int(line["ask"])))
        if task is not None:
            task.cancel()

    def _asked(self, request: int, number: int, task: asyncio.Task[Entry]) -> None:
        del self._tasks[request, number]
        if task.cancelled():
            self._answer(number, Entry(EntryEnding.LOST, message=RUN_ENDED))
        else:
            self._answer(number, task.result())

    def _answer(self, number: int, entry: Entry) -> None:
        answer = {"ending": entry.ending.value, "digits": entry.digits, "message": entry.message}
        self._post({"op": "entry", "ask": number, **answer})

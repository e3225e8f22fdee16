"""`digits`, with which a Python tool asks the caller for keys. Used only in the process that runs tools.

pin = await digits("Please enter your PIN.", 4, 10)
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, ClassVar

from worker.tools.entries import EntryEnding, KeyRequest

Line = dict[str, Any]

NOT_IN_A_HANDLER = "digits() works only in an async handler, while it runs"


class DigitsError(Exception):
    """There are no keys; the message says why, and what to do."""


class DigitsLost(DigitsError):
    """The caller's keys were discarded, because the session or the caller is gone."""


class DigitsRefused(DigitsError):
    """The caller was not asked."""


@dataclass(frozen=True, slots=True)
class DigitsEntry:
    """The caller's keys.

    Attributes:
        digits: the keys, without the `#` that ended them.
        ended_by: `count`, `#` or `timeout`.
    """

    digits: str = field(repr=False)
    ended_by: str


class Asking:
    """The requests for keys of all calls of this process. Handlers run on other event loops, in other threads."""

    def __init__(self, ask: Callable[[Line], None], leave: Callable[[Line], None]) -> None:
        """Begin without requests.

        Args:
            ask: sends a request to the worker, in any thread.
            leave: tells the worker that a tool does not wait any more.
        """
        self._send = ask
        self._leave = leave
        self._numbers = itertools.count(1)
        self._waiting: dict[int, tuple[asyncio.AbstractEventLoop, asyncio.Future[Line]]] = {}
        self._lock = threading.Lock()

    async def entry(self, request: int, wanted: KeyRequest) -> Line:
        """Ask the caller of a running request of the worker, and return the worker's answer."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Line] = loop.create_future()
        with self._lock:
            number = next(self._numbers)
            self._waiting[number] = (loop, answer)
        self._send(
            {
                "request": request,
                "ask": number,
                "prompt": wanted.prompt,
                "count": wanted.count,
                "timeout": wanted.timeout_seconds,
            }
        )
        try:
            return await answer
        finally:
            with self._lock:
                left = self._waiting.pop(number, None) is not None
            if left:
                self._leave({"request": request, "ask": number})

    def answered(self, line: Line) -> None:
        """Take an answer of the worker."""
        with self._lock:
            loop, answer = self._waiting.pop(line["ask"], (None, None))
        if loop is not None and answer is not None and not loop.is_closed():
            loop.call_soon_threadsafe(_set, answer, line)


def _set(answer: asyncio.Future[Line], line: Line) -> None:
    if not answer.done():
        answer.set_result(line)


@dataclass(slots=True)
class RunAsking:
    """One run of a tool, by its request.

    Attributes:
        is_over: the run has ended: a task that it left behind may ask no longer.
    """

    asking: Asking
    request: int
    is_over: bool = False


_run: ContextVar[RunAsking | None] = ContextVar("asking", default=None)


@contextmanager
def of_run(run: RunAsking | None) -> Iterator[None]:
    """Let this context, and its tasks, ask the caller of one run."""
    token = _run.set(run)
    try:
        yield
    finally:
        _run.reset(token)
        if run is not None:
            run.is_over = True


class Digits:
    """The function `digits` of a tool, with its errors."""

    Error: ClassVar = DigitsError
    Lost: ClassVar = DigitsLost
    Refused: ClassVar = DigitsRefused

    async def __call__(self, prompt: str, count: int, timeout: float) -> str:  # noqa: ASYNC109 - the caller's time
        """Have the agent say `prompt`, and return the keys that the caller presses.

        Args:
            prompt: said word for word; empty: nothing is said.
            count: number of keys that end the entry; `#` ends it earlier.
            timeout: seconds for the first key, after the prompt was heard, and for each further one.

        Returns:
            the keys without `#`; fewer than `count`, or none, after `#` or if no key followed in time.

        Raises:
            DigitsLost: the keys were discarded.
            DigitsRefused: the caller was not asked.
        """
        return (await self.entry(prompt, count, timeout)).digits

    async def entry(self, prompt: str, count: int, timeout: float) -> DigitsEntry:  # noqa: ASYNC109
        """Ask as `digits` does, and return how the entry ended, too."""
        try:
            wanted = KeyRequest.parse(prompt, count, timeout)
        except ValueError as error:
            raise DigitsRefused(str(error)) from None
        run = _run.get()
        if run is None or run.is_over:
            raise DigitsRefused(NOT_IN_A_HANDLER)
        line = await run.asking.entry(run.request, wanted)
        match line["ending"]:
            case EntryEnding.LOST:
                raise DigitsLost(line["message"])
            case EntryEnding.REFUSED:
                raise DigitsRefused(line["message"])
        return DigitsEntry(line["digits"], line["ending"])


digits = Digits()

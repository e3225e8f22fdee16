"""The requests of a call's tools for keys, on their way to the session that has the call.

A request that comes while the call has no session waits for the next one. A request that a session has begun does
not move: the keys are discarded, and the tool is told.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from typing import Protocol as Interface

from worker.tools.entries import Entry, EntryEnding, KeyRequest
from worker.tools.run_clock import RunClock

MAX_ASKING_SECONDS: Final = 300.0
"""Maximum time for which one run of a tool may wait for the caller, in all its requests."""

MOVED: Final = "the call goes on in another session: ask the caller again"
NO_CALLER: Final = "digits() works only in a call"
ASKED_TOO_LONG: Final = f"this run has waited {MAX_ASKING_SECONDS:g} s for the caller: return a result"
ONE_AT_A_TIME: Final = "this run is asking the caller already: await the other digits() first"

_numbers = itertools.count(1)


class CallerKeys(Interface):
    """A call's caller, who may be asked for keys."""

    async def digits(self, wanted: KeyRequest) -> Entry:
        """Ask the caller. Cancelling this discards the keys."""


@dataclass(slots=True)
class _Waiting:
    wanted: KeyRequest
    entry: asyncio.Future[Entry] = field(repr=False)
    has_begun: bool = False


class KeyRequests:
    """The requests of one session's tools."""

    def __init__(self, begin: Callable[[int, KeyRequest], bool], leave: Callable[[int], None]) -> None:
        """Begin without requests.

        Args:
            begin: gives a request to the session, by its number; False: there is no session now.
            leave: tells the session that a tool does not wait any more.
        """
        self._begin = begin
        self._leave = leave
        self._waiting: dict[int, _Waiting] = {}
        self._successor: KeyRequests | None = None

    async def digits(self, wanted: KeyRequest) -> Entry:
        """Ask the caller for keys. Cancelling this discards the keys."""
        number = next(_numbers)
        waiting = _Waiting(wanted, asyncio.get_running_loop().create_future())
        holder = self._holder
        holder._waiting[number] = waiting
        holder._begin_one(number, waiting)
        try:
            return await waiting.entry
        finally:
            holder = self._holder
            if holder._waiting.pop(number, None) is not None and waiting.has_begun:
                holder._leave(number)

    def collected(self, number: int, entry: Entry) -> None:
        """Give a tool what came of its request."""
        waiting = self._waiting.pop(number, None)
        if waiting is not None and not waiting.entry.done():
            waiting.entry.set_result(entry)

    def begin_waiting(self) -> None:
        """Give the requests that wait to the session that is there now."""
        for number, waiting in list(self._waiting.items()):
            if not waiting.has_begun:
                self._begin_one(number, waiting)

    def hand_over(self, successor: KeyRequests) -> None:
        """Give the requests that no session has begun to another session, and end the others."""
        self._successor = successor
        for number, waiting in list(self._waiting.items()):
            if waiting.has_begun:
                self.collected(number, Entry(EntryEnding.LOST, message=MOVED))
        successor._waiting |= self._waiting
        self._waiting = {}
        successor.begin_waiting()

    @property
    def _holder(self) -> KeyRequests:
        holder = self
        while holder._successor is not None:
            holder = holder._successor
        return holder

    def _begin_one(self, number: int, waiting: _Waiting) -> None:
        # The session may answer at once.
        waiting.has_begun = True
        waiting.has_begun = self._begin(number, waiting.wanted)


class RunCaller:
    """The caller as one run of a tool sees it.

    Attributes:
        has_given_keys: the run knows keys, so its exceptions may repeat these.
    """

    def __init__(self, keys: CallerKeys | None, clock: RunClock) -> None:
        """Build it.

        Args:
            keys: of the call; None: there is no call.
            clock: of the run, which stands still meanwhile.
        """
        self.has_given_keys = False
        self._keys = keys
        self._clock = clock
        self._is_asking = False
        self._left_seconds = MAX_ASKING_SECONDS

    async def digits(self, prompt: object, count: object, timeout_seconds: object) -> Entry:
        """Ask the caller for keys, with the tool's arguments."""
        try:
            wanted = KeyRequest.parse(prompt, count, timeout_seconds)
        except ValueError as error:
            return Entry(EntryEnding.REFUSED, message=str(error))
        if self._keys is None:
            return Entry(EntryEnding.REFUSED, message=NO_CALLER)
        if self._left_seconds <= 0:
            return Entry(EntryEnding.REFUSED, message=ASKED_TOO_LONG)
        if self._is_asking:
            return Entry(EntryEnding.REFUSED, message=ONE_AT_A_TIME)
        loop = asyncio.get_running_loop()
        began_seconds = loop.time()
        self._is_asking = True
        self._clock.pause()
        try:
            async with asyncio.timeout(self._left_seconds):
                entry = await self._keys.digits(wanted)
        except TimeoutError:
            return Entry(EntryEnding.LOST, message=ASKED_TOO_LONG)
        finally:
            self._is_asking = False
            self._left_seconds = max(0.0, self._left_seconds - (loop.time() - began_seconds))
            self._clock.go_on()
        self.has_given_keys |= bool(entry.digits)
        return entry

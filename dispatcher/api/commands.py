"""Send commands of the calls API to the worker that holds a call. Any dispatcher can send them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final
from typing import Protocol as Interface

import structlog

from common.errors import LinkProtocolError, ServiceError
from common.link import wire
from common.link.wire import Kind

RESULT_SECONDS: Final = 10.0
# Maximum number of events that wait for a slow reader. Over it, the stream ends, because events would be missing.
MAX_WAITING_EVENTS = 1000

log = structlog.get_logger()


class CommandError(ServiceError):
    """A command that could not be carried out.

    Attributes:
        status: an HTTP status.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class CallCommands(Interface):
    """An executor of commands to one call."""

    async def run(self, uuid: str, action: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Carry out an action, and return its result.

        Raises:
            CommandError: the action is refused, or failed.
        """

    def watch(self, uuid: str) -> AbstractAsyncContextManager[AsyncIterator[dict[str, Any]]]:
        """Return the events of a call.

        Raises:
            CommandError: the events are not available.
        """


class CommandsWithoutWorker:
    """Commands to a call without a worker: the call waits for a worker, or ends with an announcement."""

    def __init__(self, hang_up: Callable[[], Awaitable[None]]) -> None:
        self._hang_up = hang_up

    async def run(self, uuid: str, action: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Hang up the call, or return its conversation, which is empty; refuse everything else."""
        if action == "conversation":
            return {"conversation": []}
        if action != "hang_up":
            raise CommandError(409, "no worker has this call at the moment")
        await self._hang_up()
        return {}

    def watch(self, uuid: str) -> AbstractAsyncContextManager[AsyncIterator[dict[str, Any]]]:
        """Refuse: there are no events without a session."""
        raise CommandError(409, "no worker has this call at the moment")


class Commands:
    """The unanswered commands and watches of one link."""

    def __init__(self, send: Callable[[bytes], None], *, result_seconds: float = RESULT_SECONDS) -> None:
        self._send = send
        self._result_seconds = result_seconds
        self._numbers = itertools.count(1)
        self._results: dict[int, asyncio.Future[wire.Result]] = {}
        self._watches: dict[int, tuple[str, asyncio.Queue[dict[str, Any]]]] = {}

    async def run(self, uuid: str, action: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Make the call's worker carry out an action, and return the result.

        Raises:
            CommandError: the worker refused, did not answer in time, or was lost.
        """
        return await self._run(next(self._numbers), uuid, action, body or {})

    @asynccontextmanager
    async def watch(self, uuid: str) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Return the live events of a call, until the call ends or the reader is too slow.

        Raises:
            CommandError: see `run`.
        """
        number = next(self._numbers)
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(MAX_WAITING_EVENTS)
        self._watches[number] = uuid, queue
        try:
            await self._run(number, uuid, "watch", {})
            yield self._events(queue)
        finally:
            if self._watches.pop(number, None) is not None:
                self._unwatch(number, uuid)

    def record(self, kind: int, payload: memoryview) -> None:
        """Handle a record on channel 0. An invalid record is dropped, and its command then times out."""
        try:
            self._record(kind, payload)
        except LinkProtocolError as error:
            log.warning("record not understood", kind=kind, reason=str(error))

    def _record(self, kind: int, payload: memoryview) -> None:
        if kind == Kind.RESULT:
            result = wire.decode_control(wire.Result, payload)
            future = self._results.get(result.number)
            if future is not None and not future.done():
                future.set_result(result)
        elif kind == Kind.EVENT:
            event = wire.decode_control(wire.Event, payload)
            if event.number in self._watches:
                self._put(event.number, event.body)

    def lost(self) -> None:
        """Fail all commands and end all watches, because the link was lost."""
        for future in self._results.values():
            if not future.done():
                future.set_exception(CommandError(502, "the worker of this call was lost"))
        for number in list(self._watches):
            self._put(number, {})

    async def _run(self, number: int, uuid: str, action: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            command = wire.encode(wire.Command(number, uuid, action, body), 0)
        except ValueError as error:
            raise CommandError(400, f"the command cannot be sent to the worker: {error}") from error
        future: asyncio.Future[wire.Result] = asyncio.get_running_loop().create_future()
        self._results[number] = future
        self._send(command)
        try:
            async with asyncio.timeout(self._result_seconds):
                result = await future
        except TimeoutError:
            raise CommandError(
                504, f"the worker of this call did not answer within {self._result_seconds:g} s"
            ) from None
        finally:
            del self._results[number]
        if result.status >= 400:
            raise CommandError(result.status, str(result.body.get("error", "refused")))
        return result.body

    def _unwatch(self, number: int, uuid: str) -> None:
        self._send(wire.encode(wire.Command(number, uuid, "unwatch"), 0))

    def _put(self, number: int, event: dict[str, Any]) -> None:
        uuid, queue = self._watches[number]
        if not event:
            del self._watches[number]
        if queue.full():
            # The end of the stream replaces the oldest unread event. The worker's watch ends now, and not only
            # when the watcher reads again.
            if self._watches.pop(number, None) is not None:
                self._unwatch(number, uuid)
            queue.get_nowait()
            event = {}
        queue.put_nowait(event)

    @staticmethod
    async def _events(queue: asyncio.Queue[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
        while event := await queue.get():
            yield event

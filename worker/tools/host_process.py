"""A process that runs tools for a worker, and the socket to it. When it hangs or ends, its requests fail at once.

Both sides write JSON objects, one a line. A request is {id, op, ...}, and its reply {id, result} or {id, error}.
An error is {type, message, where} and, from Python, {kind, keywords}. Lines without a request have an id below 1.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from common.observe import logs
from worker.tools.errors import (
    ArgumentsNotChecked,
    BadTool,
    InvalidArguments,
    NotBegun,
    ToolFailed,
    ToolLost,
    ToolNotRun,
    one_line,
)
from worker.tools.printed_lines import PrintedLines

START_SECONDS: Final = 10.0
PING_SECONDS: Final = 1.0
STOP_SECONDS: Final = 0.5
EXIT_SECONDS: Final = 5.0
"""How long a process may go on that closed its socket, as processes do when they end."""


MAX_LINE_BYTES: Final = 1024 * 1024
"""Of a reply: 32 KiB of result, each character escaped, or a definition."""

MAX_LOG_FIELDS: Final = 8
"""Fields that are logged of a line that the process wants logged."""

_PING: Final = 0
_POST: Final = -1
_LOG: Final = -2
_BEGUN: Final = -3
_PRINTED: Final = -4
"""Ids of lines that are no requests. The process answers one ping unasked, when it is ready."""

_LEVELS: Final = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_LAUNCHER: Final = Path(__file__).with_name("die_with_parent.py")
_READ_BYTES: Final = 64 * 1024

_log = logs.get_logger()


@dataclass(frozen=True, slots=True)
class HostLimits:
    """Bounds of one process.

    Attributes:
        hang_seconds: its event loop may be stalled for so long, which is longer than a big package takes to load.
        max_requests: requests under way at once.
        max_overdue: calls that timed out and have not returned. Each keeps memory in the process.
    """

    hang_seconds: float = 5.0
    max_requests: int = 256
    max_overdue: int = 256


DEFAULT_LIMITS: Final = HostLimits()


@dataclass(frozen=True, slots=True)
class Program:
    """What runs tools of one language.

    Attributes:
        name: for the log and the model.
        command: program and arguments; the number of the socket's file descriptor is added.
        environment: of the process, in full.
        tells_begun: the process says when it begins a request, before anything of it is done.
    """

    name: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(repr=False)
    tells_begun: bool = False


class HostProcess:
    """A process from its start to its end; `start` makes one.

    Attributes:
        loaded: versions that it was told to load.
        ended: why it is of no use any more; None while it is.
        ended_seconds: when, on `time.monotonic`.
    """

    def __init__(self, program: Program, process: asyncio.subprocess.Process, limits: HostLimits) -> None:
        self.loaded: set[int] = set()
        self.ended: str | None = None
        self.ended_seconds = 0.0
        self._program = program
        self._process = process
        self._limits = limits
        self._requests: dict[int, tuple[asyncio.Future[Any], str]] = {}
        self._begun: set[int] = set()
        self._overdue: set[int] = set()
        self._busy = asyncio.Event()
        self._pong = asyncio.Event()
        self._next_id = _PING + 1
        self._writer: asyncio.StreamWriter | None = None
        self._lines = PrintedLines()
        self._lines_of_calls = PrintedLines()
        self._has_called = False
        self._tasks: list[asyncio.Task[None]] = []
        self._life = asyncio.create_task(self._live())

    @classmethod
    async def start(cls, program: Program, *, limits: HostLimits = DEFAULT_LIMITS) -> HostProcess:
        """Starts a process, and returns it when it answers.

        Args:
            program: that it runs.
            limits: of the process.

        Raises:
            ToolNotRun: it cannot be started.
        """
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid())),
                *(*program.command, str(theirs.fileno())),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=program.environment,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # Ctrl-C is not for it, and what its tools start is in one group with it
            )
        except BaseException as error:
            ours.close()
            if isinstance(error, OSError):
                reason = f"{program.name} cannot be started: {error.strerror}"
                raise ToolNotRun(f"It was not started: {reason}.") from None
            raise
        finally:
            theirs.close()
        self = cls(program, process, limits)
        try:
            await self._connect(ours)
        except BaseException:
            if self._writer is None:  # else it closes the socket
                ours.close()
            self.kill("its start was given up")
            raise
        if self.ended is not None:
            # Its end may have been noticed before there was a connection to close.
            await self.stop()
            raise ToolNotRun(f"It was not started: {program.name} does not start: {self.ended}.")
        return self

    async def request(self, what: str, message: dict[str, Any]) -> Any:
        """Returns the result of one of the process's operations. Cancelled, it cancels it where that is possible.

        Args:
            what: for the log, should it be lost.
            message: without its id.

        Raises:
            ToolFailed: the operation threw.
            BadTool, InvalidArguments, ArgumentsNotChecked: as their docstrings say.
            NotBegun: the process hung before it began the operation.
            ToolLost: the process hung or ended.
            ToolNotRun: it has ended already, or has too much to do.
        """
        if self.ended is not None:
            raise ToolNotRun(f"It was not started: the process that runs it ended: {self.ended}.")
        if len(self._requests) >= self._limits.max_requests:
            raise ToolNotRun(f"It was not started: {self._limits.max_requests} others are running.")
        self._has_called = self._has_called or message["op"] == "call"
        number, self._next_id = self._next_id, self._next_id + 1
        line = _line({"id": number, **message})
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._requests[number] = (reply, what)
        self._watch_if_busy()
        self._write(line)
        try:
            return await reply
        except asyncio.CancelledError:
            self._gave_up(number)
            raise

    def post(self, message: dict[str, Any]) -> None:
        """As `request`, where the result matters to nobody."""
        if self.ended is None:
            self._write(_line({"id": _POST, **message}))

    def kill(self, reason: str) -> None:
        """Ends the process, and whatever its tools have started, now."""
        self._end(reason)
        self._signal_group()

    async def stop(self) -> None:
        """Ends the process: asked first, by end of file, then killed. Leaves nothing."""
        self._end("the service is stopping")
        if self._writer is not None:
            self._writer.close()
        await asyncio.wait({self._life}, timeout=STOP_SECONDS)
        self._signal_group()
        await asyncio.wait({self._life})

    async def _connect(self, ours: socket.socket) -> None:
        reader, self._writer = await asyncio.open_unix_connection(sock=ours, limit=MAX_LINE_BYTES)
        self._tasks = [
            asyncio.create_task(self._log_output()),
            asyncio.create_task(self._read(reader)),
        ]
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._pong.wait()
        except TimeoutError:
            self.kill(f"it did not answer within {START_SECONDS:g} s")
        self._tasks.append(asyncio.create_task(self._watch()))

    async def _live(self) -> None:
        await self._process.wait()
        self._end(self._exit_reason())
        self._signal_group()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()

    def _write(self, line: bytes) -> None:
        assert self._writer is not None
        self._writer.write(line)

    def _gave_up(self, number: int) -> None:
        if self._requests.pop(number, None) is None:
            return
        self._begun.discard(number)
        self._overdue.add(number)
        self.post({"op": "cancel", "request": number})
        if len(self._overdue) >= self._limits.max_overdue:
            self.kill(f"{self._limits.max_overdue} calls have not returned in time")

    def _watch_if_busy(self) -> None:
        # A call that timed out may be what stalls the process.
        if self._requests or self._overdue:
            self._busy.set()
        else:
            self._busy.clear()

    def _end(self, reason: str, *, hung: bool = False) -> None:
        """Fail all requests: the process is of no use any more.

        Args:
            reason: why.
            hung: what it has not said that it began, it has not begun. Of a process that ended by itself, the last
                lines may not have been read.
        """
        if self.ended is not None:
            return
        self.ended = reason
        self.ended_seconds = time.monotonic()
        lost = [what for _, what in self._requests.values()]
        log = _log.error if lost or self._overdue else _log.info
        host, pid = self._program.name, self._process.pid
        log("tool host ended", host=host, host_pid=pid, reason=reason, interrupted=lost)
        for number, (reply, _) in self._requests.items():
            if not reply.done():
                error = NotBegun if hung and self._program.tells_begun and number not in self._begun else ToolLost
                reply.set_exception(
                    error(
                        f"It was interrupted, because the process that runs it ended: {reason}."
                        " Whether it did its work is not known.",
                        reason,
                    )
                )
        self._requests.clear()
        self._begun.clear()
        self._busy.clear()
        self._pong.set()  # whoever waits for it looks at `ended`

    def _exit_reason(self) -> str:
        status = self._process.returncode or 0
        return f"exit {status}" if status >= 0 else signal.Signals(-status).name

    def _signal_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        closed = "it closed its socket"
        try:
            while line := await reader.readline():
                self._reply(json.loads(line))  # orjson refuses the lone surrogates that JavaScript writes
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            self.kill(f"it wrote what is no reply: {type(error).__name__}")
        except OSError as error:
            # A process that ends with requests unread resets its socket.
            closed = f"its socket failed: {error.strerror}"
        # The end of the socket is that of the process, as a rule.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EXIT_SECONDS):
                await self._process.wait()
                self._end(self._exit_reason())
        self.kill(closed)

    def _reply(self, reply: dict[str, Any]) -> None:
        number = reply["id"]
        if number == _PING:
            self._pong.set()
        elif number == _BEGUN:
            if reply["request"] in self._requests:
                self._begun.add(reply["request"])
        elif number == _LOG:
            self._log_for_it(reply)
        elif number == _PRINTED:
            self._log_printed(reply)
        self._overdue.discard(number)
        self._begun.discard(number)
        waiting, _ = self._requests.pop(number, (None, ""))
        self._watch_if_busy()
        if waiting is None or waiting.done():
            return
        if "error" in reply:
            waiting.set_exception(_error(reply["error"]))
        else:
            waiting.set_result(reply["result"])

    def _log_for_it(self, line: dict[str, Any]) -> None:
        """Log what the process says of itself, within the bound of what tools print."""
        if not self._lines.has_room(time.monotonic()):
            return
        fields = itertools.islice(line["fields"].items(), MAX_LOG_FIELDS)
        shown = {str(name)[:64]: one_line(each) if isinstance(each, str) else each for name, each in fields}
        _log.log(_LEVELS[line["level"]], one_line(line["event"]), **shown)

    def _log_printed(self, line: dict[str, Any]) -> None:
        """Log a line that a call has printed: at `debug`, because it may repeat what the caller said."""
        printed = f"{line['text']}\n".encode(errors="replace")
        shown, dropped = self._lines_of_calls.feed(printed, time.monotonic())
        if dropped + line["dropped"]:
            _log.debug("a tool prints too much", dropped_lines=dropped + line["dropped"])
        for each in shown:
            _log.debug("a tool printed", uuid=str(line["uuid"]), tool=str(line["tool"])[:64], text=each)

    async def _watch(self) -> None:
        """Asks for a sign of life while something runs."""
        while self.ended is None:
            await self._busy.wait()
            self._pong.clear()
            self._write(_line({"id": _PING, "op": "ping"}))
            if not await self._answers():
                self._end(f"its event loop was stalled for {self._limits.hang_seconds:g} s", hung=True)
                self._signal_group()
            await asyncio.sleep(PING_SECONDS)

    async def _answers(self) -> bool:
        # Twice half the time: after a pause of this process, the first half is over at once.
        for _ in range(2):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._limits.hang_seconds / 2):
                    return await self._pong.wait()
        return False

    async def _log_output(self) -> None:
        assert self._process.stdout is not None
        while printed := await self._process.stdout.read(_READ_BYTES):
            shown, dropped = self._lines.feed(printed, time.monotonic())
            # Nobody has said anything before the first call. Later, a program or a thread of a tool may repeat it.
            log = _log.debug if self._has_called else _log.info
            if dropped:
                log("a tool prints too much", dropped_lines=dropped)
            for line in shown:
                log("a tool printed", text=line)


def _line(message: dict[str, Any]) -> bytes:
    return orjson.dumps(message) + b"\n"


def _error(error: dict[str, Any]) -> Exception:
    """Return the exception that a reply stands for."""
    message = one_line(error["message"])
    match error.get("kind", "failed"):
        case "invalid":
            # Bounded by its author: see `worker.tools.schemas`.
            return InvalidArguments(str(error["message"]), *map(str, error["keywords"]))
        case "not checked":
            return ArgumentsNotChecked(message)
        case "not run":
            return ToolNotRun(message)
        case "bad tool":
            return BadTool(message)
        case _:
            return ToolFailed(str(error["type"]), message, str(error["where"]))

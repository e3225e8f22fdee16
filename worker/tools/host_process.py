"""A process that runs tools for a worker, and the socket to that process.

When the process stalls or ends, all its requests fail at once. Both sides write JSON objects, one per line.
A request is {id, op, ...}; its reply is {id, result} or {id, error}. An error is {type, message, where}; errors of
the Python process also have {kind, keywords}. Lines that are not replies have an id below 1.
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
from worker.tools.caller_asks import CallerAsks
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
from worker.tools.key_requests import RunCaller
from worker.tools.printed_lines import PrintedLines

START_SECONDS: Final = 10.0
PING_SECONDS: Final = 1.0
STOP_SECONDS: Final = 0.5
EXIT_SECONDS: Final = 5.0
"""Maximum time between the end of the process's socket and the end of the process."""

MAX_LINE_BYTES: Final = 1024 * 1024
"""Maximum length of a reply: a definition, or 32 KiB of result with each character escaped."""

MAX_LOG_FIELDS: Final = 8
"""Maximum number of fields in a log line of the process."""

_PING: Final = 0
_POST: Final = -1
_LOG: Final = -2
_BEGUN: Final = -3
_PRINTED: Final = -4
_ASK: Final = -5
_LEAVE: Final = -6
"""Ids of lines that are not requests. A new process sends one ping reply unasked when it is ready."""

_LEVELS: Final = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_LAUNCHER: Final = Path(__file__).with_name("die_with_parent.py")
_READ_BYTES: Final = 64 * 1024

_log = logs.get_logger()


@dataclass(frozen=True, slots=True)
class HostLimits:
    """Bounds of one process.

    Attributes:
        hang_seconds: maximum stall of the event loop. Loading a big package takes less.
        max_requests: maximum number of unanswered requests.
        max_overdue: maximum number of calls that timed out and have not returned. Each keeps memory.
    """

    hang_seconds: float = 5.0
    max_requests: int = 256
    max_overdue: int = 256


DEFAULT_LIMITS: Final = HostLimits()


@dataclass(frozen=True, slots=True)
class Program:
    """A program that runs the tools of one language.

    Attributes:
        name: the name for the log and the model.
        command: program and arguments; `HostProcess` appends the number of the socket's file descriptor.
        environment: the complete environment of the process.
        tells_begun: whether the process announces each request before it begins the request.
    """

    name: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(repr=False)
    tells_begun: bool = False


class HostProcess:
    """A process that runs tools, from its start to its end. `start` creates one.

    Attributes:
        loaded: versions that the process was told to load.
        ended: why the process ended or was given up; None while the process is usable.
        ended_seconds: when that happened, on `time.monotonic`.
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
        self._asks = CallerAsks(self.post)
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
        """Start a process, and return it once it answers.

        Args:
            program: the program to run.
            limits: the bounds of the process.

        Raises:
            ToolNotRun: the process cannot be started.
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
                # Ctrl-C must not reach the process, and programs that its tools start must share its group.
                start_new_session=True,
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
            if self._writer is None:  # a writer closes the socket itself
                ours.close()
            self.kill("its start was cancelled")
            raise
        if self.ended is not None:
            # The process may have ended before there was a connection to close.
            await self.stop()
            raise ToolNotRun(f"It was not started: {program.name} does not start: {self.ended}.")
        return self

    async def request(self, what: str, message: dict[str, Any], caller: RunCaller | None = None) -> Any:
        """Return the result of one operation. Cancelling this also cancels the operation if possible.

        Args:
            what: names the operation in the log if the operation is lost.
            message: the request without its id.
            caller: may be asked for keys while the operation runs.

        Raises:
            ToolFailed: the operation threw.
            BadTool, InvalidArguments, ArgumentsNotChecked: see these classes.
            NotBegun: the process stalled before it began the operation.
            ToolLost: the process stalled or ended.
            ToolNotRun: the process has ended already, or has `MAX_REQUESTS` unanswered requests.
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
        if caller is not None:
            self._asks.begin(number, caller)
        self._watch_if_busy()
        self._write(line)
        try:
            return await reply
        except asyncio.CancelledError:
            self._gave_up(number)
            raise
        finally:
            self._asks.end(number)

    def post(self, message: dict[str, Any]) -> None:
        """Send a request whose result is not needed."""
        if self.ended is None:
            self._write(_line({"id": _POST, **message}))

    def kill(self, reason: str) -> None:
        """Kill the process and all programs that its tools have started."""
        self._end(reason)
        self._signal_group()

    async def stop(self) -> None:
        """Close the process's socket, wait at most `STOP_SECONDS`, then kill the process and its children."""
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
        # A call that timed out may stall the process.
        if self._requests or self._overdue:
            self._busy.set()
        else:
            self._busy.clear()

    def _end(self, reason: str, *, hung: bool = False) -> None:
        """Fail all requests, because the process stalled or ended.

        Args:
            reason: why the process is not usable.
            hung: whether the process stalled. A stalled process has begun only the requests that it announced.
                If a process ended by itself, its last announcements may not have been read.
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
        self._pong.set()  # wakes `_connect` and `_watch`, which then look at `ended`

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
            self.kill(f"it wrote an invalid reply: {type(error).__name__}")
        except OSError as error:
            # A process that ends before it has read all requests resets its socket.
            closed = f"its socket failed: {error.strerror}"
        # Usually the process ends together with its socket.
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
        elif number == _ASK:
            self._asks.ask(reply)
        elif number == _LEAVE:
            self._asks.leave(reply)
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
        """Write a log line of the process. It counts against the maximum number of printed lines."""
        if not self._lines.has_room(time.monotonic()):
            return
        fields = itertools.islice(line["fields"].items(), MAX_LOG_FIELDS)
        shown = {str(name)[:64]: one_line(each) if isinstance(each, str) else each for name, each in fields}
        _log.log(_LEVELS[line["level"]], one_line(line["event"]), **shown)

    def _log_printed(self, line: dict[str, Any]) -> None:
        """Log a line that a call printed, at `debug`, because the line may repeat the caller's words."""
        printed = f"{line['text']}\n".encode(errors="replace")
        shown, dropped = self._lines_of_calls.feed(printed, time.monotonic())
        if dropped + line["dropped"]:
            _log.debug("a tool prints too much", dropped_lines=dropped + line["dropped"])
        for each in shown:
            _log.debug("a tool printed", uuid=str(line["uuid"]), tool=str(line["tool"])[:64], text=each)

    async def _watch(self) -> None:
        """Send pings while requests run, and kill the process if it does not answer one."""
        while self.ended is None:
            await self._busy.wait()
            self._pong.clear()
            self._write(_line({"id": _PING, "op": "ping"}))
            if not await self._answers():
                self._end(f"its event loop was stalled for {self._limits.hang_seconds:g} s", hung=True)
                self._signal_group()
            await asyncio.sleep(PING_SECONDS)

    async def _answers(self) -> bool:
        # Wait in two halves: after a pause of this process, the first half times out at once.
        for _ in range(2):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._limits.hang_seconds / 2):
                    return await self._pong.wait()
        return False

    async def _log_output(self) -> None:
        assert self._process.stdout is not None
        while printed := await self._process.stdout.read(_READ_BYTES):
            shown, dropped = self._lines.feed(printed, time.monotonic())
            # Before the first call there are no caller's words to repeat. Later, a tool's thread may print some.
            log = _log.debug if self._has_called else _log.info
            if dropped:
                log("a tool prints too much", dropped_lines=dropped)
            for line in shown:
                log("a tool printed", text=line)


def _line(message: dict[str, Any]) -> bytes:
    return orjson.dumps(message) + b"\n"


def _error(error: dict[str, Any]) -> Exception:
    """Return the exception for the error in a reply."""
    message = one_line(error["message"])
    match error.get("kind", "failed"):
        case "invalid":
            # `worker.tools.schemas` has already bounded this message.
            return InvalidArguments(str(error["message"]), *map(str, error["keywords"]))
        case "not checked":
            return ArgumentsNotChecked(message)
        case "not run":
            return ToolNotRun(message)
        case "bad tool":
            return BadTool(message)
        case _:
            return ToolFailed(str(error["type"]), message, str(error["where"]))

"""One Node process and the socket to it. When it hangs or ends, everything that it was asked fails at once.

Node may look at everything that this process may, but the secrets below are not handed to it: no tool needs them,
and a package of a tool's, or a `console.log(process.env)`, could carry them out. (A tool that reads `.env`, as
`dotenv` does, sees what is in there.)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, Final

import orjson

from common import logs
from worker.tools.errors import ToolFailed, ToolLost, ToolNotRun, one_line
from worker.tools.node_output import PrintedLines

WITHHELD: Final = frozenset(
    {"OPENAI_API_KEY", "SAFETY_IDENTIFIER_SECRET", "STS_TOKEN", "CLUSTER_TOKEN", "ADMIN_TOKEN"}
)
"""Variables, in capitals: settings are read in any case."""

START_SECONDS: Final = 10.0
HANG_SECONDS: Final = 5.0
"""How long the process's event loop may stand still: longer than the loading of a big package."""

PING_SECONDS: Final = 1.0
STOP_SECONDS: Final = 0.5

MAX_LINE_BYTES: Final = 1024 * 1024
"""Of a reply: 32 KiB of result, each character escaped, or a definition."""

MAX_REQUESTS: Final = 256
"""Under way at once."""

MAX_OVERDUE: Final = 256
"""Calls that nobody waits for any more and that have not returned: each keeps memory in Node."""

_PING: Final = 0
_POST: Final = -1
"""Ids of lines that are no requests; host.js says by a reply to a ping that it is ready."""

_HOST: Final = Path(__file__).with_name("node") / "host.js"
_LAUNCHER: Final = Path(__file__).with_name("die_with_parent.py")
_READ_BYTES: Final = 64 * 1024

_log = logs.get_logger()


class NodeProcess:
    """A process from its start to its end; `start` makes one.

    Attributes:
        loaded: versions that it was told to load.
        ended: why it is of no use any more; None while it is.
        ended_seconds: when, on `time.monotonic`.
    """

    def __init__(self, process: asyncio.subprocess.Process, hang_seconds: float) -> None:
        self.loaded: set[int] = set()
        self.ended: str | None = None
        self.ended_seconds = 0.0
        self._process = process
        self._hang_seconds = hang_seconds
        self._requests: dict[int, tuple[asyncio.Future[Any], str]] = {}
        self._overdue: set[int] = set()
        self._busy = asyncio.Event()
        self._pong = asyncio.Event()
        self._next_id = _PING + 1
        self._writer: asyncio.StreamWriter | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._life = asyncio.create_task(self._live())

    @classmethod
    async def start(cls, node: str, *, hang_seconds: float = HANG_SECONDS) -> NodeProcess:
        """Starts a process, and returns it when it answers.

        Args:
            node: the executable.
            hang_seconds: how long its event loop may stand still.

        Raises:
            ToolNotRun: it cannot be started.
        """
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid())),
                *(node, str(_HOST), str(theirs.fileno())),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=_environment(),
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # Ctrl-C is not for it, and what its tools start is in one group with it
            )
        except BaseException as error:
            ours.close()
            if isinstance(error, OSError):
                raise ToolNotRun(f"It was not started: node cannot be started: {error.strerror}.") from None
            raise
        finally:
            theirs.close()
        self = cls(process, hang_seconds)
        try:
            await self._connect(ours)
        except BaseException:
            if self._writer is None:  # else it closes the socket
                ours.close()
            self.kill("its start was given up")
            raise
        if self.ended is not None:
            raise ToolNotRun(f"It was not started: node does not start: {self.ended}.")
        return self

    async def request(self, what: str, message: dict[str, Any]) -> Any:
        """Returns the result of one of host.js's operations. Cancelled, it leaves that to itself.

        Args:
            what: for the log, should it be lost.
            message: without its id.

        Raises:
            ToolFailed: the operation threw.
            ToolLost: the process hung or ended.
            ToolNotRun: it has ended already, or has too much to do.
        """
        if self.ended is not None:
            raise ToolNotRun(f"It was not started: the process that runs it ended: {self.ended}.")
        if len(self._requests) >= MAX_REQUESTS:
            raise ToolNotRun(f"It was not started: {MAX_REQUESTS} others are running.")
        number, self._next_id = self._next_id, self._next_id + 1
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._requests[number] = (reply, what)
        self._busy.set()
        self._write({"id": number, **message})
        try:
            return await reply
        except asyncio.CancelledError:
            self._gave_up(number)
            raise

    def post(self, message: dict[str, Any]) -> None:
        """As `request`, where the result matters to nobody."""
        if self.ended is None:
            self._write({"id": _POST, **message})

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

    def _write(self, message: dict[str, Any]) -> None:
        assert self._writer is not None
        self._writer.write(orjson.dumps(message) + b"\n")

    def _gave_up(self, number: int) -> None:
        if self._requests.pop(number, None) is None:
            return
        self._idle_if_done()
        self._overdue.add(number)
        if len(self._overdue) >= MAX_OVERDUE:
            self.kill(f"{MAX_OVERDUE} calls have not returned in time")

    def _idle_if_done(self) -> None:
        if not self._requests:
            self._busy.clear()

    def _end(self, reason: str) -> None:
        if self.ended is not None:
            return
        self.ended = reason
        self.ended_seconds = time.monotonic()
        lost = [what for _, what in self._requests.values()]
        log = _log.error if lost else _log.info
        log("node host ended", node_pid=self._process.pid, reason=reason, interrupted=lost)
        for reply, _ in self._requests.values():
            if not reply.done():
                reply.set_exception(
                    ToolLost(
                        f"It was interrupted, because the process that runs it ended: {reason}."
                        " Whether it did its work is not known."
                    )
                )
        self._requests.clear()
        self._busy.clear()
        self._pong.set()  # whoever waits for it looks at `ended`

    def _exit_reason(self) -> str:
        status = self._process.returncode or 0
        return f"exit {status}" if status >= 0 else signal.Signals(-status).name

    def _signal_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                self._reply(json.loads(line))  # orjson refuses the lone surrogates that JavaScript writes
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            self.kill(f"it wrote what is no reply: {type(error).__name__}")
        except OSError as error:
            self.kill(f"its socket failed: {error.strerror}")
        # The end of the socket is that of the process, as a rule.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self._process.wait()
                self._end(self._exit_reason())
        self.kill("it closed its socket")

    def _reply(self, reply: dict[str, Any]) -> None:
        number = reply["id"]
        if number == _PING:
            self._pong.set()
        self._overdue.discard(number)
        waiting, _ = self._requests.pop(number, (None, ""))
        self._idle_if_done()
        if waiting is None or waiting.done():
            return
        if "error" in reply:
            error = reply["error"]
            waiting.set_exception(ToolFailed(error["type"], one_line(error["message"]), error["where"]))
        else:
            waiting.set_result(reply["result"])

    async def _watch(self) -> None:
        """Asks for a sign of life while there is something to do."""
        while self.ended is None:
            await self._busy.wait()
            self._pong.clear()
            self._write({"id": _PING, "op": "ping"})
            if not await self._answers():
                self.kill(f"its event loop stood still for {self._hang_seconds:g} s")
            await asyncio.sleep(PING_SECONDS)

    async def _answers(self) -> bool:
        # Twice half the time: after a pause of this process, the first half is over at once.
        for _ in range(2):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._hang_seconds / 2):
                    return await self._pong.wait()
        return False

    async def _log_output(self) -> None:
        assert self._process.stdout is not None
        lines = PrintedLines()
        while printed := await self._process.stdout.read(_READ_BYTES):
            shown, dropped = lines.feed(printed, time.monotonic())
            if dropped:
                _log.warning("a tool prints too much", dropped_lines=dropped)
            for line in shown:
                _log.info("a tool printed", text=line)


def _environment() -> dict[str, str]:
    """This process's, without what is withheld, and with the way to the packages that come with the project."""
    environment = {name: value for name, value in os.environ.items() if name.upper() not in WITHHELD}
    modules = str(_HOST.with_name("node_modules"))
    environment["NODE_PATH"] = os.pathsep.join(filter(None, [environment.get("NODE_PATH"), modules]))
    environment.setdefault("DOTENV_CONFIG_QUIET", "true")  # else each config() prints an advertisement
    return environment

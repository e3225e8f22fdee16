"""The process that runs a worker's tools in Python, and checks the arguments of all tools.

    python -c ... WITHHELD PATH FOLDERS FD

WITHHELD lists the names of variables that tools do not see, separated by commas. PATH is the import path of the
service, and FOLDERS are those of tools, both as JSON arrays. FD is a socket to the worker. Both sides write JSON
objects, one per line:

    {id, op: "load", version, file, source}          -> {id, result: {name, description, input_schema, idempotent}}
    {id, op: "call", version, uuid, args, metadata}  -> {id, result: "text"}
    {id, op: "define", version, schema}              -> {id, result: null}
    {id, op: "check", version, args}                 -> {id, result: null}
    {id, op: "ping"}                                 -> {id, result: null}
    {id, op: "drop", version}                        -> {id, result: null}
    {id, op: "cancel", request}                      -> {id, result: null}
    {id, op: "entry", ask, ending, digits, message}  -> {id, result: null}

A failed request has, instead of `result`, {id, error: {kind, type, message, where, keywords}}. Other lines to the
worker: {id: -3, request} before the process begins a call; {id: -2, level, event, fields} for the worker's log;
{id: -4, uuid, tool, text, dropped} for a line that a call printed. A call asks for keys with
{id: -5, request, ask, prompt, count, timeout}, which `entry` answers; {id: -6, request, ask} ends that early.

One thread reads requests. The main thread answers requests and checks arguments, because Python delivers signals
only to the main thread. Checks run one at a time, with other requests between them. Handlers run in other threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import orjson
from jsonschema.protocols import Validator

from worker.tools import call_output, operator_modules, python_tool, schemas, withheld
from worker.tools.caller_digits import Asking, RunAsking
from worker.tools.child_log import ChildLog
from worker.tools.errors import ArgumentsNotChecked, BadTool, InvalidArguments, ToolFailed, ToolNotRun, one_line
from worker.tools.python_tool import PythonTool
from worker.tools.threads import Threads
from worker.tools.tool_loop import ToolLoop

MAX_LOADING: Final = 32
"""Maximum number of threads that load files. A file whose import never ends keeps its thread."""

SWITCH_SECONDS: Final = 0.0005
"""Maximum time that a busy tool keeps the interpreter while other threads wait for it. Python's default is 5 ms.
With it, a check of arguments beside 64 busy tools would wait most of its time limit."""

_LOG: Final = -2
_BEGUN: Final = -3
_PRINTED: Final = -4
_ASK: Final = -5
_LEAVE: Final = -6
"""Ids of lines that are not replies."""

Request = dict[str, Any]


class Channel:
    """The socket to the worker. Any thread may write; a write blocks until the socket takes the line."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, message: dict[str, Any]) -> None:
        """Write a line; drop the line if the worker is disconnected."""
        try:
            line = orjson.dumps(message)
        except TypeError:  # a lone surrogate, or a number beyond 64 bits
            line = json.dumps(message).encode()
        with self._lock, contextlib.suppress(OSError):
            self._connection.sendall(line + b"\n")

    def read(self, line: Callable[[bytes], None], end: Callable[[], None]) -> None:
        """Read lines until the worker disconnects."""
        with contextlib.suppress(OSError), self._connection.makefile("rb") as lines:
            for each in lines:
                line(each)
        end()


class PythonChild:
    """The handler of the worker's requests."""

    def __init__(self, channel: Channel, log: ChildLog) -> None:
        """Build the handler. Must be called on the event loop that runs it."""
        self.ended = asyncio.Event()
        self._channel = channel
        self._loading = Threads("load-tools", limit=MAX_LOADING, log=log)
        self._threads = Threads("tool", log=log)
        self._loop = ToolLoop(log=log)
        self._asking = Asking(
            lambda line: channel.send({"id": _ASK, **line}), lambda line: channel.send({"id": _LEAVE, **line})
        )
        self._tools: dict[int, asyncio.Task[PythonTool]] = {}
        self._validators: dict[int, Validator] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._unnumbered: set[asyncio.Task[None]] = set()
        self._checks: deque[Request] = deque()

    def request(self, line: bytes) -> None:
        """Begin to answer one request of the worker."""
        request = orjson.loads(line)
        match request["op"]:
            case "ping":
                self._reply(request)
            case "load":
                loading = asyncio.create_task(self._load(request))
                loading.add_done_callback(_retrieve_exception)
                self._tools[request["version"]] = loading
                self._answer(request, _exported(loading))
            case "call":
                self._answer(request, self._call(request))
            case "define" | "check":
                self._checks.append(request)
                if len(self._checks) == 1:
                    asyncio.get_running_loop().call_soon(self._next_check)
            case "drop":
                self._tools.pop(request["version"], None)
                self._validators.pop(request["version"], None)
            case "entry":
                self._asking.answered(request)
            case "cancel":
                if task := self._tasks.get(request["request"]):
                    task.cancel()

    async def stop(self) -> None:
        """Cancel all running requests."""
        for task in (*self._tasks.values(), *self._unnumbered, *self._tools.values()):
            task.cancel()
        await self._loop.stop()

    def _answer(self, request: Request, work: Coroutine[Any, Any, Any]) -> None:
        async def answer() -> None:
            try:
                self._reply(request, await work)
            except BaseException as error:
                self._fail(request, error)

        task = asyncio.create_task(answer())
        number = request["id"]
        if number > 0:
            self._tasks[number] = task
            task.add_done_callback(lambda _: self._tasks.pop(number, None))
        else:
            self._unnumbered.add(task)
            task.add_done_callback(self._unnumbered.discard)

    async def _load(self, request: Request) -> PythonTool:
        file = Path(request["file"])
        source = str(request["source"]).encode("latin-1")

        def load() -> PythonTool:
            return python_tool.load(file, source, self._threads, self._loop)

        return await self._loading.run(file.name, load)

    async def _call(self, request: Request) -> str:
        try:
            # Cancelling one call must not cancel the loading of the file.
            tool = await asyncio.shield(self._tools[request["version"]])
        except (BadTool, KeyError):
            raise ToolFailed("Error", "it could not be loaded again", "") from None
        self._channel.send({"id": _BEGUN, "request": request["id"]})
        run = RunAsking(self._asking, request["id"])
        return await tool.call(request["uuid"], request["args"], request["metadata"], run)

    def _next_check(self) -> None:
        request = self._checks[0]
        try:
            if request["op"] == "define":
                self._validators[request["version"]] = schemas.validator_of(request["schema"])
            else:
                schemas.check(request["args"], self._validators[request["version"]])
        except BaseException as error:
            self._fail(request, error)
        else:
            self._reply(request)
        self._checks.popleft()
        if self._checks:
            asyncio.get_running_loop().call_soon(self._next_check)

    def _reply(self, request: Request, result: object = None) -> None:
        self._channel.send({"id": request["id"], "result": result})

    def _fail(self, request: Request, error: BaseException) -> None:
        told: dict[str, Any] = {"type": type(error).__name__, "message": one_line(str(error)), "where": ""}
        match error:
            case ToolFailed():
                told |= {"type": error.error_type, "message": error.message, "where": error.where}
            case InvalidArguments():
                told |= {"kind": "invalid", "message": str(error), "keywords": error.keywords}
            case ArgumentsNotChecked():
                told["kind"] = "not checked"
            case ToolNotRun():
                told["kind"] = "not run"
            case BadTool():
                told["kind"] = "bad tool"
        self._channel.send({"id": request["id"], "error": told})


async def _exported(loading: asyncio.Task[PythonTool]) -> dict[str, Any]:
    return (await asyncio.shield(loading)).exported


def _retrieve_exception(loading: asyncio.Task[PythonTool]) -> None:
    """Retrieve the exception, so that asyncio does not log it when no request waits for the file."""
    if not loading.cancelled():
        loading.exception()


async def _run(connection: socket.socket, names: list[str]) -> None:
    channel = Channel(connection)
    log = ChildLog(lambda line: channel.send({"id": _LOG, **line}))
    withheld.watch(names, log)
    call_output.watch(lambda line: channel.send({"id": _PRINTED, **line}))
    threading.excepthook = lambda failed: log.warning("a tool's thread failed", error=failed.exc_type.__name__)
    loop = asyncio.get_running_loop()
    child = PythonChild(channel, log)

    def in_loop(function: Callable[..., object], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(function, *arguments)

    reading = threading.Thread(
        target=channel.read,
        args=(lambda line: in_loop(child.request, line), lambda: in_loop(child.ended.set)),
        name="requests",
        daemon=True,
    )
    reading.start()
    channel.send({"id": 0, "result": None})
    await child.ended.wait()
    await child.stop()


def main() -> None:
    """Serve the worker until it closes the socket."""
    names, _, folders, descriptor = sys.argv[1:]
    del sys.argv[1:]
    operator_modules.make_room(json.loads(folders))
    sys.setswitchinterval(SWITCH_SECONDS)
    connection = socket.socket(fileno=int(descriptor))
    connection.set_inheritable(False)  # programs that tools start must not get the worker's socket
    asyncio.run(_run(connection, [name for name in names.split(",") if name]))

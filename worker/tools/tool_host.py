"""Tools in processes of their own: one process for each language runs the tools of all calls of a worker.

A process is started on first need, and again when it has ended. The versions that calls still hold are then loaded
again, from the sources that are kept here.
"""

from __future__ import annotations

import asyncio
import itertools
import time
import weakref
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from common.runtime.restart_policy import RestartPolicy
from worker.tools.definition import ATTRIBUTES, Definition
from worker.tools.errors import ArgumentsNotChecked, BadTool, NotBegun, ToolFailed, ToolLost, ToolNotRun
from worker.tools.host_process import DEFAULT_LIMITS, HostLimits, HostProcess, Program
from worker.tools.result import bounded

CHECK_SECONDS: Final = 15.0
"""How long a check of arguments may take, with a process that hangs and the start of another one within it."""


@dataclass(frozen=True, slots=True)
class Part:
    """A thing that a process loads before it can be asked for it: one version of a file, or a schema.

    Attributes:
        version: unique in this process.
        loading: the request that loads it; kept, because another process may have to load it.
    """

    version: int
    loading: dict[str, Any] = field(repr=False)


class ToolHost:
    """The process that runs one program, whichever process it is at the time."""

    def __init__(self, program: Program, *, limits: HostLimits = DEFAULT_LIMITS) -> None:
        """Build it; there is no process before the first need.

        Args:
            program: that runs the tools.
            limits: of the process.
        """
        self._program = program
        self._limits = limits
        self._process: HostProcess | None = None
        self._starting: asyncio.Task[HostProcess] | None = None
        self._policy = RestartPolicy()
        self._not_before_seconds = 0.0
        self._versions = itertools.count()
        self._dropped: deque[int] = deque()  # by the garbage collector, so maybe in another thread
        self._one_by_one = asyncio.Lock()
        self._stopped = False

    def part(self, op: str, **fields: Any) -> Part:
        """Return a part that is loaded by the operation `op`."""
        version = next(self._versions)
        return Part(version, {"op": op, "version": version, **fields})

    def drop(self, part: Part) -> None:
        """Have the process forget a part."""
        self._dropped.append(part.version)

    def drop_with(self, holder: object, part: Part) -> None:
        """Have the process forget a part when `holder` is gone."""
        weakref.finalize(holder, self._dropped.append, part.version).atexit = False

    async def load(self, part: Part, what: str, *, within_seconds: float | None = None) -> Any:
        """Loads a part for the first time and returns what the process says of it.

        Args:
            part: of this host.
            what: for the log.
            within_seconds: bounds it; None: only a process that hangs is given up.

        Raises:
            BadTool: it cannot be loaded.
            ToolNotRun: there is no process; this says nothing of the part.
        """
        try:
            try:
                return await self._load(part, what, within_seconds)
            except ToolLost:
                # Maybe by a tool that ran at the time, or by another part: alone it is known which one it is.
                async with self._one_by_one:
                    return await self._load(part, what, within_seconds)
        except ToolFailed as failed:
            raise BadTool(f"{failed} ({failed.where})" if failed.where else str(failed)) from None
        except TimeoutError:
            raise BadTool(f"its import has not ended after {within_seconds:g} s") from None
        except ToolLost as lost:
            name = self._program.name.capitalize()
            raise BadTool(f"{name} did not survive loading it: {lost.reason}") from None

    async def ask(self, part: Part, what: str, message: dict[str, Any]) -> Any:
        """Returns the result of an operation on a part.

        Raises:
            ToolFailed, ToolNotRun, ToolLost, InvalidArguments, ArgumentsNotChecked: as their docstrings say.
        """
        try:
            return await self._ask(part, what, message)
        except NotBegun:
            return await self._ask(part, what, message)

    async def stop(self) -> None:
        """Ends the process; calls under way are lost."""
        self._stopped = True
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait({self._starting})
        if self._process is not None:
            await self._process.stop()

    async def _load(self, part: Part, what: str, within_seconds: float | None) -> Any:
        process = await self._running()
        async with asyncio.timeout(within_seconds):
            loaded = await process.request(f"loading {what}", part.loading)
        process.loaded.add(part.version)
        return loaded

    async def _ask(self, part: Part, what: str, message: dict[str, Any]) -> Any:
        process = await self._running()
        if part.version not in process.loaded:
            process.loaded.add(part.version)
            process.post(part.loading)
        return await process.request(what, {"version": part.version, **message})

    async def _running(self) -> HostProcess:
        if self._stopped:
            raise ToolNotRun("It was not started: the service is stopping.")
        if self._process is None or self._process.ended is not None:
            if self._starting is None:
                self._starting = asyncio.create_task(self._start())
                self._starting.add_done_callback(self._started)
            return await asyncio.shield(self._starting)
        while self._dropped:
            version = self._dropped.popleft()
            if version in self._process.loaded:
                self._process.loaded.discard(version)
                self._process.post({"op": "drop", "version": version})
        return self._process

    async def _start(self) -> HostProcess:
        if self._process is not None:
            self._ended(self._process.ended_seconds)
        await asyncio.sleep(max(0.0, self._not_before_seconds - time.monotonic()))
        self._policy.started(time.monotonic())
        try:
            self._process = await HostProcess.start(self._program, limits=self._limits)
        except ToolNotRun:
            self._process = None
            self._ended(time.monotonic())
            raise
        return self._process

    def _ended(self, now_seconds: float) -> None:
        self._not_before_seconds = now_seconds + self._policy.ended(now_seconds)

    def _started(self, starting: asyncio.Task[HostProcess]) -> None:
        self._starting = None
        if not starting.cancelled():
            starting.exception()  # so that it counts as seen, should nobody wait for it any more


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class HostedTool:
    """One version of a tool. Its process forgets the tool when this is gone.

    Attributes:
        script: its file, as a part of `host`.
        schema: its `input_schema`, as a part of `checker`.
    """

    definition: Definition
    script: Part
    host: ToolHost = field(repr=False)
    schema: Part = field(repr=False)
    checker: ToolHost = field(repr=False)

    async def check(self, arguments: dict[str, Any]) -> None:
        """Checks arguments against the author's schema, in another process.

        Raises:
            InvalidArguments: they do not match.
            ArgumentsNotChecked: the check did not end.
            ToolFailed: the schema cannot be used.
            ToolNotRun: there is no process for it.
        """
        message = {"op": "check", "args": arguments}
        what = f"arguments of {self.definition.name}"
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                try:
                    await self.checker.ask(self.schema, what, message)
                except ToolLost:  # most likely by a tool that ran at the time
                    await self.checker.ask(self.schema, what, message)
        except TimeoutError:
            raise ArgumentsNotChecked(f"no answer within {CHECK_SECONDS:g} s") from None
        except ToolLost as error:
            raise ArgumentsNotChecked(str(error)) from None

    async def call(self, uuid: str, arguments: dict[str, Any], metadata: Mapping[str, str]) -> str:
        """Runs the handler and returns its result as text within the bound.

        Raises:
            ToolFailed: it threw, or what it returned cannot be written as JSON.
            ToolNotRun: there is no process, or no thread, for it.
            ToolLost: the process hung or ended meanwhile.
        """
        message = {"op": "call", "uuid": uuid, "args": arguments, "metadata": dict(metadata)}
        result = await self.host.ask(self.script, self.definition.name, message)
        if not isinstance(result, str):
            raise ToolFailed(type(result).__name__, "the process that runs it answered with no text", "")
        return bounded(result)


async def load_tool(
    file: Path, source: str, host: ToolHost, checker: ToolHost, *, within_seconds: float | None = None
) -> HostedTool:
    """Runs the source of `file` and takes the tool from it.

    Args:
        file: its real path, from which it looks for what it requires.
        source: its text, as the host wants it.
        host: runs it.
        checker: checks the schema, and later the arguments.
        within_seconds: bounds the run.

    Raises:
        BadTool: it cannot be run, or what it exports is no tool.
        ToolNotRun: there is no process for it; this says nothing of the file.
    """
    script = host.part("load", file=str(file), source=source)
    exported = await host.load(script, file.name, within_seconds=within_seconds)
    try:
        definition = Definition.parse(*(exported.get(each) for each in ATTRIBUTES))
        schema = checker.part("define", schema=definition.parameters)
        await checker.load(schema, f"the schema of {file.name}")
    except BaseException:
        host.drop(script)
        raise
    tool = HostedTool(definition, script, host, schema, checker)
    host.drop_with(tool, script)
    checker.drop_with(tool, schema)
    return tool

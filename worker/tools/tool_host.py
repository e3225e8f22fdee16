"""Run tools in separate processes: one process per language runs the tools of all calls of a worker.

A process is started on first use, and started again after it has ended. A new process loads the versions that
calls still use from the sources that this module keeps.
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
from worker.tools.key_requests import RunCaller
from worker.tools.result import bounded

CHECK_SECONDS: Final = 15.0
"""Time limit of a check of arguments. It allows for a stalled process and the start of another one."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part that a process must load before requests can name it: one version of a file, or a schema.

    Attributes:
        version: a number that is unique in this process.
        loading: the request that loads the part; kept, because a later process may have to load the part again.
    """

    version: int
    loading: dict[str, Any] = field(repr=False)


class ToolHost:
    """The current process of one program. A process that ended is replaced on the next use."""

    def __init__(self, program: Program, *, limits: HostLimits = DEFAULT_LIMITS) -> None:
        """Begin without a process; the first use starts one.

        Args:
            program: the program that runs the tools.
            limits: the bounds of the process.
        """
        self._program = program
        self._limits = limits
        self._process: HostProcess | None = None
        self._starting: asyncio.Task[HostProcess] | None = None
        self._policy = RestartPolicy()
        self._not_before_seconds = 0.0
        self._versions = itertools.count()
        self._dropped: deque[int] = deque()  # the garbage collector may append in any thread
        self._one_by_one = asyncio.Lock()
        self._stopped = False

    def part(self, op: str, **fields: Any) -> Part:
        """Return a part that the operation `op` loads."""
        version = next(self._versions)
        return Part(version, {"op": op, "version": version, **fields})

    def drop(self, part: Part) -> None:
        """Make the process forget a part."""
        self._dropped.append(part.version)

    def drop_with(self, holder: object, part: Part) -> None:
        """Make the process forget a part when `holder` is garbage-collected."""
        weakref.finalize(holder, self._dropped.append, part.version).atexit = False

    async def load(self, part: Part, what: str, *, within_seconds: float | None = None) -> Any:
        """Load a part for the first time and return the process's reply.

        Args:
            part: a part of this host.
            what: names the part in the log.
            within_seconds: time limit; None: no limit beside that of a stalled process.

        Raises:
            BadTool: the part cannot be loaded.
            ToolNotRun: there is no process. The part itself may be good.
        """
        try:
            try:
                return await self._load(part, what, within_seconds)
            except ToolLost:
                # A running tool or another part may have ended the process. A part loaded alone shows the cause.
                async with self._one_by_one:
                    return await self._load(part, what, within_seconds)
        except ToolFailed as failed:
            raise BadTool(f"{failed} ({failed.where})" if failed.where else str(failed)) from None
        except TimeoutError:
            raise BadTool(f"its import has not ended after {within_seconds:g} s") from None
        except ToolLost as lost:
            name = self._program.name.capitalize()
            raise BadTool(f"{name} did not survive loading it: {lost.reason}") from None

    async def ask(self, part: Part, what: str, message: dict[str, Any], caller: RunCaller | None = None) -> Any:
        """Return the result of an operation on a part; `caller` may be asked for keys meanwhile.

        Raises:
            ToolFailed, ToolNotRun, ToolLost, InvalidArguments, ArgumentsNotChecked: see these classes.
        """
        try:
            return await self._ask(part, what, message, caller)
        except NotBegun:
            return await self._ask(part, what, message, caller)

    async def stop(self) -> None:
        """End the process; running calls fail."""
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

    async def _ask(self, part: Part, what: str, message: dict[str, Any], caller: RunCaller | None) -> Any:
        process = await self._running()
        if part.version not in process.loaded:
            process.loaded.add(part.version)
            process.post(part.loading)
        return await process.request(what, {"version": part.version, **message}, caller)

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
            starting.exception()  # retrieved, so that asyncio does not log it when no request waits for it


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class HostedTool:
    """One version of a tool. The tool's process forgets the version when this object is garbage-collected.

    Attributes:
        script: the tool's file, as a part of `host`.
        schema: the tool's `input_schema`, as a part of `checker`.
    """

    definition: Definition
    script: Part
    host: ToolHost = field(repr=False)
    schema: Part = field(repr=False)
    checker: ToolHost = field(repr=False)

    async def check(self, arguments: dict[str, Any]) -> None:
        """Check arguments against the tool's schema, in another process.

        Raises:
            InvalidArguments: the arguments do not match.
            ArgumentsNotChecked: the check did not end.
            ToolFailed: the schema cannot be used.
            ToolNotRun: there is no process for the check.
        """
        message = {"op": "check", "args": arguments}
        what = f"arguments of {self.definition.name}"
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                try:
                    await self.checker.ask(self.schema, what, message)
                except ToolLost:  # most likely a running tool ended the process
                    await self.checker.ask(self.schema, what, message)
        except TimeoutError:
            raise ArgumentsNotChecked(f"no answer within {CHECK_SECONDS:g} s") from None
        except ToolLost as error:
            raise ArgumentsNotChecked(str(error)) from None

    async def call(
        self, uuid: str, arguments: dict[str, Any], metadata: Mapping[str, str], caller: RunCaller
    ) -> str:
        """Run the handler, which may ask the caller for keys, and return its result as bounded text.

        Raises:
            ToolFailed: the handler threw, or its result cannot be written as JSON.
            ToolNotRun: there is no process, or no thread, for the handler.
            ToolLost: the process stalled or ended meanwhile.
        """
        message = {"op": "call", "uuid": uuid, "args": arguments, "metadata": dict(metadata)}
        result = await self.host.ask(self.script, self.definition.name, message, caller)
        if not isinstance(result, str):
            raise ToolFailed(type(result).__name__, "the process that runs it answered with no text", "")
        return bounded(result)


async def load_tool(
    file: Path, source: str, host: ToolHost, checker: ToolHost, *, within_seconds: float | None = None
) -> HostedTool:
    """Run the source of `file` and return the tool that it exports.

    Args:
        file: the file's real path, which is the base of its relative imports.
        source: the file's text, in the encoding that the host expects.
        host: runs the file.
        checker: checks the schema, and later the arguments.
        within_seconds: time limit of the run.

    Raises:
        BadTool: the file cannot be run, or does not export a tool.
        ToolNotRun: there is no process. The file itself may be good.
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

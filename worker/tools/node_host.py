"""Tools in JavaScript, as AVR has them: `module.exports = {name, description, input_schema, handler}`.

One Node process runs those of all calls of a worker. It is started on first need, and again when it has ended; the
versions that calls still hold are then loaded again, from the sources that are kept here.
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

from common.restart_policy import RestartPolicy
from worker.tools.definition import Definition
from worker.tools.errors import BadTool, ToolFailed, ToolLost, ToolNotRun
from worker.tools.node_process import HANG_SECONDS, NodeProcess
from worker.tools.result import bounded

_ATTRIBUTES: Final = ("name", "description", "input_schema", "idempotent")


@dataclass(frozen=True, slots=True)
class Script:
    """One version of a file.

    Attributes:
        version: unique in this process.
        file: its real path, from which it looks for what it requires.
        source: kept, as the file may have changed when a new Node process loads it.
    """

    version: int
    file: Path
    source: str = field(repr=False)

    @property
    def loading(self) -> dict[str, Any]:
        """The request that loads it."""
        return {"op": "load", "version": self.version, "file": str(self.file), "source": self.source}


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class NodeTool:
    """A tool whose handler runs in Node. Node forgets it when this is gone."""

    definition: Definition
    script: Script
    host: NodeHost = field(repr=False)

    async def call(self, uuid: str, arguments: dict[str, Any], metadata: Mapping[str, str]) -> str:
        """Runs the handler and returns its result as text within the bound.

        Raises:
            ToolFailed: it threw, or what it returned cannot be written as JSON.
            ToolNotRun: there is no Node process for it.
            ToolLost: the Node process hung or ended meanwhile.
        """
        message = {"uuid": uuid, "args": arguments, "metadata": dict(metadata)}
        return bounded(await self.host.call(self.script, self.definition.name, message))


class NodeHost:
    """The Node process of a worker, whichever it is at the time."""

    def __init__(self, node: str, *, hang_seconds: float = HANG_SECONDS) -> None:
        """Build it; there is no process before the first need.

        Args:
            node: the executable.
            hang_seconds: how long the process may stand still before it is killed.
        """
        self._node = node
        self._hang_seconds = hang_seconds
        self._process: NodeProcess | None = None
        self._starting: asyncio.Task[NodeProcess] | None = None
        self._policy = RestartPolicy()
        self._not_before_seconds = 0.0
        self._versions = itertools.count()
        self._dropped: deque[int] = deque()  # by the garbage collector, so maybe in another thread
        self._stopped = False

    async def load(self, file: Path, source: bytes) -> NodeTool:
        """Runs the source of `file` and takes the tool from it.

        Raises:
            BadTool: it cannot be run, or what it exports is no tool.
            ToolNotRun: there is no Node process; this says nothing of the file.
        """
        script = Script(next(self._versions), file, source.decode("utf-8-sig", errors="replace"))
        try:
            try:
                exported = await self._load(script)
            except ToolLost:  # maybe by a tool that ran at the time
                exported = await self._load(script)
        except ToolFailed as failed:
            raise BadTool(f"{failed} ({failed.where})" if failed.where else str(failed)) from None
        except ToolLost:
            assert self._process is not None
            raise BadTool(f"Node did not survive loading it: {self._process.ended}") from None
        tool = NodeTool(Definition.parse(*(exported.get(each) for each in _ATTRIBUTES)), script, self)
        weakref.finalize(tool, self._dropped.append, script.version).atexit = False
        return tool

    async def call(self, script: Script, name: str, message: dict[str, Any]) -> str:
        """Runs the handler of a script; see `NodeTool.call`."""
        process = await self._running()
        if script.version not in process.loaded:
            process.loaded.add(script.version)
            process.post(script.loading)
        result = await process.request(name, {"op": "call", "version": script.version, **message})
        assert isinstance(result, str)
        return result

    async def stop(self) -> None:
        """Ends the process; calls under way are lost."""
        self._stopped = True
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait({self._starting})
        if self._process is not None:
            await self._process.stop()

    async def _load(self, script: Script) -> dict[str, Any]:
        process = await self._running()
        exported: dict[str, Any] = await process.request(f"loading {script.file.name}", script.loading)
        process.loaded.add(script.version)
        return exported

    async def _running(self) -> NodeProcess:
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

    async def _start(self) -> NodeProcess:
        if self._process is not None:
            self._ended(self._process.ended_seconds)
        await asyncio.sleep(max(0.0, self._not_before_seconds - time.monotonic()))
        self._policy.started(time.monotonic())
        try:
            self._process = await NodeProcess.start(self._node, hang_seconds=self._hang_seconds)
        except ToolNotRun:
            self._process = None
            self._ended(time.monotonic())
            raise
        return self._process

    def _ended(self, now_seconds: float) -> None:
        self._not_before_seconds = now_seconds + self._policy.ended(now_seconds)

    def _started(self, starting: asyncio.Task[NodeProcess]) -> None:
        self._starting = None
        if not starting.cancelled():
            starting.exception()  # so that it counts as seen, should nobody wait for it any more

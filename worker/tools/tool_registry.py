"""The custom tools of a worker: loads their files, and loads edited files again."""

from __future__ import annotations

import asyncio
import functools
import shutil
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from common.observe import logs
from common.settings.fields import SettingFields
from common.settings.function_tools import by_tool
from worker.tools import files, programs
from worker.tools.built_in import BUILT_IN
from worker.tools.environment import ToolEnvironment
from worker.tools.errors import BadTool, ToolNotRun, one_line
from worker.tools.files import Stamp
from worker.tools.threads import Threads
from worker.tools.tool_host import ToolHost, load_tool
from worker.tools.tool_set import Tool, ToolSet

MAX_READING: Final = 32
"""Maximum number of threads that read files."""

_log = logs.get_logger()


@dataclass(frozen=True, slots=True)
class RegistryLimits:
    """Times of a registry.

    Attributes:
        load_seconds: time limit for the import of a file.
        start_seconds: maximum time that `start` waits for the files. Slower files are available to later calls.
        refresh_seconds: maximum time that a new call waits for edited files. After it, the call uses the earlier
            versions.
        retry_seconds: time until a file is loaded again, after its process could not be started.
    """

    load_seconds: float = 10.0
    start_seconds: float = 30.0
    refresh_seconds: float = 2.0
    retry_seconds: float = 30.0


DEFAULT_LIMITS: Final = RegistryLimits()


@dataclass(frozen=True, slots=True)
class _File:
    """The state of a file.

    Attributes:
        stamp: the stamp of the last version that was tried.
        tool: the tool of the last version that loaded; None if no version did.
        retry_seconds: when to load the same version again; None: never.
        problem: why the last version did not load; empty: it did.
    """

    stamp: Stamp
    tool: Tool | None
    retry_seconds: float | None = None
    problem: str = ""


class ToolRegistry:
    """All custom tools of a worker process; each process has one registry.

    Tools are files that end in `.py` (see `worker.tools.python_tool`), `.js` or `.mjs`. They run in separate
    processes, which are started when there is a file for them. The Python process also checks the arguments of all
    tools.

    Each version of a file that does not load is named in one log line. An earlier version that did load stays in
    use. Of two tools with the same name, the first directory wins, and within a directory the first file name. A
    tool with the name of a built-in tool replaces the built-in tool.

    Attributes:
        limits: the bounds of this registry.
    """

    def __init__(
        self,
        directories: Iterable[Path],
        *,
        timeout_seconds: float,
        node: str | None,
        granted: Collection[str] = (),
        limits: RegistryLimits = DEFAULT_LIMITS,
    ) -> None:
        """Build the registry. Must be called on the event loop of its calls.

        Args:
            directories: TOOLS_DIR, then AVR_TOOLS_DIR; these need not exist.
            timeout_seconds: time limit of each run of a tool.
            node: the executable for JavaScript files; None if there is none.
            granted: names of the service's secret variables that tools may see.
            limits: the bounds of the registry.
        """
        by_real_path = {each.resolve(): each.absolute() for each in reversed([*directories])}
        self._directories = list(reversed(by_real_path.values()))
        self._timeout_seconds = timeout_seconds
        self.limits = limits
        environment = ToolEnvironment.of(granted=granted)
        self._python = ToolHost(programs.python(self._directories, environment))
        self._node = None if node is None else ToolHost(programs.node(node, environment))
        self._reading = Threads("read-tools", limit=MAX_READING)
        self._files: dict[Path, _File] = {}
        self._complaints: frozenset[tuple[str, str]] = frozenset()
        self._tools: list[Tool] = []
        self._replaced: dict[str, str] = {}
        self._file_of: dict[str, Path] = {}
        self._stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tool_set = self._new_tool_set()
        self._refreshing: asyncio.Task[None] | None = None
        self._is_slow = False

    @classmethod
    def of(cls, settings: SettingFields) -> Self:
        """Build the registry of a process with these settings. Must be called on the event loop of its calls."""
        return cls(
            settings.tools_dirs,
            timeout_seconds=settings.tool_timeout_seconds,
            node=shutil.which("node"),
            granted=settings.tools_env,
        )

    @property
    def file_names(self) -> dict[str, str]:
        """The names of the files of the loaded tools, by the names of the tools."""
        return {name: self._shown(file) for name, file in self._file_of.items()}

    @property
    def problems(self) -> list[tuple[str, str]]:
        """Each file that is not used, or whose newest version is not, with the reason."""
        broken = {(self._shown(file), known.problem) for file, known in self._files.items() if known.problem}
        return sorted(broken | self._complaints)

    async def start(self) -> None:
        """Load the files and log the outcome. Takes at most `start_seconds`."""
        await self._refresh(self.limits.start_seconds)

    async def tool_set(self) -> ToolSet:
        """Return the tools for a new call, with edits; for a file that loads slowly, the earlier version."""
        await self._refresh(self.limits.refresh_seconds)
        return self._tool_set

    async def stop(self) -> None:
        """End all processes within about 1 s. Each running tool returns a result that names this cause."""
        if not self._stopped.done():
            self._stopped.set_result(None)
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait({self._refreshing})
        await asyncio.gather(self._python.stop(), *([self._node.stop()] if self._node else []))

    async def _refresh(self, wait_seconds: float) -> None:
        if self._stopped.done():
            return
        if self._refreshing is None:
            self._refreshing = asyncio.create_task(self._look_for_edits())
            self._refreshing.add_done_callback(self._refreshed)
        elif self._is_slow:  # one call has already waited for this refresh
            return
        _, waiting = await asyncio.wait({self._refreshing}, timeout=wait_seconds)
        self._is_slow = bool(waiting)

    def _refreshed(self, refreshing: asyncio.Task[None]) -> None:
        self._refreshing = None
        self._is_slow = False
        if not refreshing.cancelled() and (error := refreshing.exception()) is not None:
            directories = self._shown_directories
            _log.error("tool directories could not be scanned", directories=directories, error=repr(error))

    async def _look_for_edits(self) -> None:
        stamps, complaints = await self._scan()
        now_seconds = time.monotonic()
        edited = [file for file, stamp in stamps.items() if self._is_due(file, stamp, now_seconds)]
        loaded: dict[Path, _File] = {}

        async def load(file: Path) -> None:
            loaded[file] = await self._load(file, stamps[file])

        await asyncio.gather(*(load(file) for file in edited))
        self._files = {file: loaded.get(file) or self._files[file] for file in stamps}
        self._put_together(complaints)

    async def _scan(self) -> tuple[dict[Path, Stamp], set[tuple[str, str]]]:
        """Return all files, and the complaints. An unreadable directory keeps its known files."""
        stamps: dict[Path, Stamp] = {}
        left_out: list[Path] = []
        complaints = set()
        for directory in self._directories:
            room = files.MAX_FILES - len(stamps)
            try:
                listing = await self._reading.run("scan", functools.partial(files.scan, directory, room))
            except (OSError, ToolNotRun) as error:
                complaints.add((directory.name, f"the directory cannot be read: {one_line(str(error))}"))
                kept = [file for file in self._files if file.parent == directory]
                stamps |= {file: self._files[file].stamp for file in kept[:room]}
            else:
                stamps |= listing.stamps
                left_out += listing.left_out
        if left_out:
            reason = f"{len(left_out)} files from this one on exceed {files.MAX_FILES}"
            complaints.add((self._shown(left_out[0]), reason))
        return stamps, complaints

    def _is_due(self, file: Path, stamp: Stamp, now_seconds: float) -> bool:
        known = self._files.get(file)
        if known is None or known.stamp != stamp:
            return True
        return known.retry_seconds is not None and now_seconds >= known.retry_seconds

    async def _load(self, file: Path, stamp: Stamp) -> _File:
        before = self._files.get(file)
        in_use = None if before is None else before.tool
        retry_seconds = None
        try:
            tool = await self._tool(file)
            for name, changes in by_tool(tool.definition.changes).items():
                _log.warning("a tool was changed for the API", file=self._shown(file), tool=name, changes=changes)
            return _File(stamp, tool)
        except BadTool as error:
            reason = str(error)
        except ToolNotRun as error:
            reason = str(error)
            retry_seconds = time.monotonic() + self.limits.retry_seconds
        except Exception as error:  # the failure of one file must not affect the other files
            reason = repr(error)
        stays = None if in_use is None else "the version that was loaded before"
        _log.error("a tool file does not load", file=self._shown(file), reason=one_line(reason), in_use=stays)
        return _File(stamp, in_use, retry_seconds, one_line(reason))

    async def _tool(self, file: Path) -> Tool:
        within_seconds = self.limits.load_seconds
        real_file, source = await self._reading.run(file.name, lambda: (file.resolve(), files.read(file)))
        if file.suffix in files.JAVASCRIPT:
            if self._node is None:
                raise BadTool("it needs node, which is not on the PATH")
            text = source.decode("utf-8-sig", errors="replace")
            return await load_tool(real_file, text, self._node, self._python, within_seconds=within_seconds)
        # latin-1 keeps each byte as one character, because the source itself may declare its encoding.
        text = source.decode("latin-1")
        return await load_tool(file, text, self._python, self._python, within_seconds=within_seconds)

    def _put_together(self, complaints: set[tuple[str, str]]) -> None:
        tools: dict[str, Tool] = {}
        file_of: dict[str, Path] = {}
        for file, known in self._files.items():
            if known.tool is None:
                continue
            name = known.tool.definition.name
            if name in tools:
                reason = f"{self._shown(file_of[name])} has a tool of the same name, {name}"
                if file.parent != file_of[name].parent:
                    reason += "; TOOLS_DIR wins over AVR_TOOLS_DIR"
                complaints.add((self._shown(file), reason))
                continue
            tools[name] = known.tool
            file_of[name] = file
        self._file_of = file_of
        self._complain(complaints)
        self._warn_of_replaced({name: self._shown(file) for name, file in file_of.items() if name in BUILT_IN})
        if list(tools.values()) == self._tools:
            return
        self._tools = list(tools.values())
        self._tool_set = self._new_tool_set()
        _log.info("tools loaded", directories=self._shown_directories, tools=sorted(tools))

    def _warn_of_replaced(self, replaced: dict[str, str]) -> None:
        """Log the files that replace built-in tools, at the start and whenever an edit changes this list."""
        if replaced and replaced != self._replaced:
            _log.warning(
                "your files replace built-in tools",
                tools=replaced,
                effect="TRANSFER_ALLOWED does not restrict them, and they do not wait for the agent's last words",
            )
        self._replaced = replaced

    def _complain(self, complaints: set[tuple[str, str]]) -> None:
        for file, reason in sorted(complaints - self._complaints):
            _log.error("a tool file is not used", file=file, reason=reason)
        self._complaints = frozenset(complaints)

    def _shown(self, file: Path) -> str:
        """Return a file's name, preceded by its folder unless the folder is TOOLS_DIR."""
        return file.name if file.parent == self._directories[0] else f"{file.parent.name}/{file.name}"

    @property
    def _shown_directories(self) -> list[str]:
        return [str(each) for each in self._directories]

    def _new_tool_set(self) -> ToolSet:
        return ToolSet(self._tools, timeout_seconds=self._timeout_seconds, stopped=self._stopped)

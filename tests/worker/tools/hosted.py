"""Processes that run tools, without a registry."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from worker.tools.host_process import Program
from worker.tools.tool_host import Part, ToolHost

GUARD_SECONDS = 60
HANG_SECONDS = 1.0

OUR_SECRETS = (
    *("OPENAI_API_KEY", "openai_api_key", "SAFETY_IDENTIFIER_SECRET", "STS_TOKEN", "CLUSTER_TOKEN", "ADMIN_TOKEN"),
    *("TLS_KEY", "CLUSTER_TLS_KEY", "REDIS_URL", "REDIS_URL_FILE", "OPENAI_MCP_SERVERS"),
)
OTHERS = ("MY_API_KEY", "MY_TOKEN", "TLS_CERT", "OPENAI_MODEL", "WEATHER_URL", "DATABASE_URL")
"""Variables that tools may see."""


@dataclass(eq=False)
class LoadedTool:
    """A loaded tool of a host."""

    host: ToolHost
    script: Part
    name: str

    async def call(self, *, uuid: str = "a-uuid", **arguments: object) -> Any:
        """Run the tool in a call."""
        async with asyncio.timeout(GUARD_SECONDS):
            message = {"op": "call", "uuid": uuid, "args": arguments, "metadata": {}}
            return await self.host.ask(self.script, self.name, message)


class Host(ToolHost):
    """A host for tools in one language."""

    def __init__(
        self, program: Program, directory: Path, suffix: str, *, hang_seconds: float = HANG_SECONDS
    ) -> None:
        super().__init__(program, hang_seconds=hang_seconds)
        self._directory = directory
        self._suffix = suffix

    async def load_source(self, source: str, name: str) -> LoadedTool:
        """Load a tool from source text."""
        file = f"{name}{self._suffix}"
        script = self.part("load", file=str(self._directory / file), source=source)
        await self.load(script, file)
        tool = LoadedTool(self, script, name)
        self.drop_with(tool, script)
        return tool


def children() -> list[psutil.Process]:
    """Return the processes of tools; the test run may have other children, such as a Redis."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            is_redis = any("redis" in each for each in process.cmdline())
        except psutil.ZombieProcess:  # a zombie counts, because its parent has not collected it yet
            is_redis = False
        except psutil.NoSuchProcess:
            continue
        if not is_redis:
            found.append(process)
    return found


def lives(pid: int) -> bool:
    """Return whether a process runs."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

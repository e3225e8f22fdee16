"""Processes that run tools, without a registry."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.helpers import eventually
from tests.scenarios import forked
from worker.tools.errors import ToolNotRun
from worker.tools.host_process import HostLimits, Program
from worker.tools.tool_host import Part, ToolHost

GUARD_SECONDS = 60
HANG_SECONDS = 1.0
LIMITS = HostLimits(hang_seconds=HANG_SECONDS)

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

    def __init__(self, program: Program, directory: Path, suffix: str, *, limits: HostLimits = LIMITS) -> None:
        super().__init__(program, limits=limits)
        self._directory = directory
        self._suffix = suffix

    async def pid(self) -> int:
        """Return the id of the current process."""
        raise NotImplementedError

    async def load_source(self, source: str, name: str) -> LoadedTool:
        """Load a tool from source text."""
        file = f"{name}{self._suffix}"
        script = self.part("load", file=str(self._directory / file), source=source)
        await self.load(script, file)
        tool = LoadedTool(self, script, name)
        self.drop_with(tool, script)
        return tool


def children() -> list[psutil.Process]:
    """Return the processes of tools; the test run may have other children: a Redis, and services of scenarios."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            is_other = any("redis" in each or each == forked.__name__ for each in process.cmdline())
        except psutil.ZombieProcess:  # a zombie counts, because its parent has not collected it yet
            is_other = False
        except psutil.NoSuchProcess:
            continue
        if not is_other:
            found.append(process)
    return found


def lives(pid: int) -> bool:
    """Return whether a process runs."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def is_told_of_two_others(endless: LoadedTool) -> None:
    """Check that a host whose limit is two requests refuses a third at once."""
    running = [asyncio.create_task(endless.call()) for _ in range(3)]
    (refused,), _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    error = refused.exception()
    assert isinstance(error, ToolNotRun)
    assert "2 others are running" in str(error)
    for each in running:
        each.cancel()
    await asyncio.wait(running)


async def ends_in_order(host: Host, spawns: LoadedTool, exit_mark: Path) -> None:
    """Check that a stopped host lets its process end in order, and leaves no process or file open.

    Args:
        spawns: a tool that starts a program and returns the program's id.
        exit_mark: a file that the process makes when it ends in order.
    """
    grandchild = int(await spawns.call())
    assert psutil.pid_exists(grandchild)
    fds = psutil.Process().num_fds()
    await host.stop()
    assert exit_mark.exists()  # noqa: ASYNC240 - one look at a local file
    assert children() == []
    await eventually(lambda: not lives(grandchild))
    assert psutil.Process().num_fds() < fds
    with pytest.raises(ToolNotRun, match="the service is stopping"):
        await spawns.call()


async def ends_while_it_starts(host: Host) -> None:
    """Check that a host leaves no process if it is stopped during the start."""
    starting = asyncio.create_task(host.pid())
    await eventually(children)
    await host.stop()
    await eventually(lambda: not children())
    with pytest.raises((ToolNotRun, asyncio.CancelledError)):
        await starting


def dies_with_its_worker(program: str, *arguments: str) -> None:
    """Check that the process of tools dies with a killed worker.

    Args:
        program: the worker's program in Python; it prints the id of the process before it calls a tool.
    """
    with subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        process = psutil.Process(int(worker.stdout.readline()))
        worker.kill()
    gone, _ = psutil.wait_procs([process], timeout=GUARD_SECONDS)
    assert gone

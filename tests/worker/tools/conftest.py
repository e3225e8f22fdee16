"""Fixtures for tools in temporary directories, on the service's event loop."""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from pathlib import Path

import pytest
import uvloop

import worker.tools
from tests.helpers import needed, needed_program
from tests.worker.tools import gates
from tests.worker.tools.gates import ProcessGate
from worker.tools.tool_registry import DEFAULT_LIMITS, RegistryLimits, ToolRegistry

NODE_MODULES = Path(worker.tools.__file__).with_name("node") / "node_modules"


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


class ToolsDir:
    """A directory of tool files."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, source: str) -> Path:
        """Write a file, or replace an existing file, as editors do."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_name(f".{file.name}.new")
        new.write_text(textwrap.dedent(source))
        return new.replace(file)


@pytest.fixture
def avr_tools_dir(tmp_path: Path) -> ToolsDir:
    return ToolsDir(tmp_path / "avr_tools")


@pytest.fixture
def tools_dir(tmp_path: Path) -> ToolsDir:
    return ToolsDir(tmp_path / "tools")


OpenRegistry = Callable[..., Awaitable[ToolRegistry]]
NewGate = Callable[[str], ProcessGate]


@pytest.fixture
async def open_tool_registry(tools_dir: ToolsDir, avr_tools_dir: ToolsDir) -> AsyncIterator[OpenRegistry]:
    """Return a function that opens registries on both directories. Stop all registries at the end."""
    sheds: list[ToolRegistry] = []

    async def open_one(
        *,
        timeout_seconds: float = 60,
        node: str | None = None,
        granted: Collection[str] = (),
        limits: RegistryLimits = DEFAULT_LIMITS,
    ) -> ToolRegistry:
        folders = (tools_dir.path, avr_tools_dir.path)
        tool_registry = ToolRegistry(
            folders, timeout_seconds=timeout_seconds, node=node, granted=granted, limits=limits
        )
        sheds.append(tool_registry)
        await tool_registry.start()
        return tool_registry

    yield open_one
    for tool_registry in sheds:
        await tool_registry.stop()


@pytest.fixture
def new_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NewGate]:
    """Return a function that makes gates for tools. Request it before `open_tool_registry`."""
    monkeypatch.setenv(gates.FOLDER, str(tmp_path))
    yield gates.new_gate
    gates.close_all()


@pytest.fixture
def node() -> str:
    """Return Node's executable."""
    return needed_program("node")


@pytest.fixture
def node_modules() -> str:
    """Return the folder of the packages that AVR's documented tools require."""
    found = str(NODE_MODULES) if (NODE_MODULES / "axios").exists() and (NODE_MODULES / "dotenv").exists() else None
    return needed(found, "axios and dotenv are missing: run make node-tools")

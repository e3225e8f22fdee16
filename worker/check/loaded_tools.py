"""The tools of the settings, loaded once for all checks: an import may have effects of its own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from common.settings.settings import Settings
from worker.tools.tool_registry import ToolRegistry
from worker.tools.tool_set import ToolSet

SECONDS: Final = 20.0
"""Twice the time that a tool has for its import."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The tools that load, and the reasons why others do not.

    Attributes:
        tool_set: the tools of a call.
        file_names: files of the tools by their names.
        problems: files that are not used, with the reasons.
    """

    tool_set: ToolSet
    file_names: dict[str, str]
    problems: list[tuple[str, str]]


class LoadedTools:
    """The tools, loaded when a check first asks for them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loading: asyncio.Task[Loaded] | None = None

    async def get(self) -> Loaded:
        """Return the tools. A check that gives up does not stop the loading for others."""
        if self._loading is None:
            self._loading = asyncio.create_task(self._load(), name="load tools")
        return await asyncio.shield(self._loading)

    async def _load(self) -> Loaded:
        registry = ToolRegistry.of(self._settings)
        try:
            await registry.start()
            tool_set = await registry.tool_set()
            return Loaded(tool_set, dict(registry.file_names), list(registry.problems))
        finally:
            await registry.stop()

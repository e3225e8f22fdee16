"""The check of the tools: which of them load, which do not, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from common.check.check import Check
from common.check.finding import Finding, State
from common.settings.settings import Settings
from worker.tools.signature import signature
from worker.tools.tool_registry import ToolRegistry

NAME: Final = "tools"

SECONDS: Final = 20.0
"""Twice the time that a tool has for its import."""


def check(settings: Settings) -> Check:
    """Return the check."""
    value = ", ".join(map(str, settings.tools_dirs))

    async def look() -> Sequence[Finding]:
        registry = ToolRegistry.of(settings)
        try:
            await registry.start()
            tools = await registry.tool_set()
        finally:
            await registry.stop()
        files = registry.file_names
        found = [
            Finding(NAME, State.OK, files.get(each["name"], ""), signature(each)) for each in tools.definitions
        ]
        found += [
            Finding(NAME, State.FAIL, file, f"not used: {reason}", "correct the file, or remove it")
            for file, reason in registry.problems
        ]
        return found or [Finding(NAME, State.OK, value, "no files: the agent has its built-in tools alone")]

    return Check(NAME, value, look, late="look at the imports of the tools: one does not end", seconds=SECONDS)

"""The check of the tools: which of them load, which do not, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from common.check.check import Check
from common.check.finding import Finding, State
from common.settings.settings import Settings
from worker.check.loaded_tools import SECONDS, LoadedTools
from worker.tools.signature import signature

NAME: Final = "tools"


def check(settings: Settings, loaded: LoadedTools) -> Check:
    """Return the check."""
    value = ", ".join(map(str, settings.tools_dirs))

    async def look() -> Sequence[Finding]:
        tools = await loaded.get()
        found = [
            Finding(NAME, State.OK, tools.file_names.get(each["name"], ""), signature(each))
            for each in tools.tool_set.definitions
        ]
        found += [
            Finding(NAME, State.FAIL, file, f"not used: {reason}", "correct the file, or remove it")
            for file, reason in tools.problems
        ]
        return found or [Finding(NAME, State.OK, value, "no files: the agent has its built-in tools alone")]

    return Check(NAME, value, look, late="look at the imports of the tools: one does not end", seconds=SECONDS)

"""Helpers with which tests run a tool."""

from __future__ import annotations

import json
from typing import Any

from worker.tools.result import ToolResult
from worker.tools.tool_set import ToolSet

UUID = "550e8400-e29b-41d4-a716-446655440000"
METADATA = {"from": "+15550100", "to": "600"}


async def run(tool_set: ToolSet, name: str, **arguments: Any) -> ToolResult:
    """Run a tool in a call and return its result."""
    return await tool_set.run(name, json.dumps(arguments), uuid=UUID, metadata=METADATA)


async def output(tool_set: ToolSet, name: str, **arguments: Any) -> str:
    """Run a tool, expect success, and return its output for the model."""
    result = await run(tool_set, name, **arguments)
    assert result.outcome == "ok", result
    return result.output


def names(tool_set: ToolSet) -> list[str]:
    """Return the names of the tools in a tool set."""
    return [definition["name"] for definition in tool_set.definitions]

"""How tests call a tool."""

from __future__ import annotations

import json
from typing import Any

from worker.tools.result import ToolResult
from worker.tools.tool_set import ToolSet

UUID = "550e8400-e29b-41d4-a716-446655440000"
METADATA = {"from": "+15550100", "to": "600"}


async def run(tool_set: ToolSet, name: str, **arguments: Any) -> ToolResult:
    """The result of a tool, called in a call."""
    return await tool_set.run(name, json.dumps(arguments), uuid=UUID, metadata=METADATA)


async def output(tool_set: ToolSet, name: str, **arguments: Any) -> str:
    """What the model is told by a tool that works."""
    result = await run(tool_set, name, **arguments)
    assert result.outcome == "ok", result
    return result.output


def names(tool_set: ToolSet) -> list[str]:
    """Of the tools in a toolbox."""
    return [definition["name"] for definition in tool_set.definitions]

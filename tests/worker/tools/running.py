"""How tests call a tool."""

from __future__ import annotations

import json
from typing import Any

from worker.tools.result import ToolResult
from worker.tools.toolbox import Toolbox

UUID = "550e8400-e29b-41d4-a716-446655440000"
METADATA = {"from": "+15550100", "to": "600"}


async def run(toolbox: Toolbox, name: str, **arguments: Any) -> ToolResult:
    """The result of a tool, called in a call."""
    return await toolbox.run(name, json.dumps(arguments), uuid=UUID, metadata=METADATA)


async def output(toolbox: Toolbox, name: str, **arguments: Any) -> str:
    """What the model is told by a tool that works."""
    result = await run(toolbox, name, **arguments)
    assert result.outcome == "ok", result
    return result.output


def names(toolbox: Toolbox) -> list[str]:
    """Of the tools in a toolbox."""
    return [definition["name"] for definition in toolbox.definitions]

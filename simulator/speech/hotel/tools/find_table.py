"""A tool of the demo: it finds a free table, as a reservation system would."""

from __future__ import annotations

import asyncio
from typing import Any

name = "find_table"
description = "Finds a free table for a number of people at a time of today."
input_schema = {
    "type": "object",
    "properties": {"people": {"type": "integer", "minimum": 1}, "time": {"type": "string"}},
    "required": ["people", "time"],
}
idempotent = True


async def handler(_uuid: str, args: dict[str, Any]) -> dict[str, Any]:
    """Answer after the time that a real reservation system takes."""
    await asyncio.sleep(0.4)
    return {"free": True, "place": "window", **args}

"""A tool of the demo: it books a table, as a reservation system would."""

from __future__ import annotations

import asyncio
from typing import Any

name = "book_table"
description = "Books a table that find_table has found."
input_schema = {
    "type": "object",
    "properties": {
        "people": {"type": "integer", "minimum": 1},
        "time": {"type": "string"},
        "place": {"type": "string"},
    },
    "required": ["people", "time", "place"],
}


async def handler(_uuid: str, args: dict[str, Any]) -> dict[str, Any]:
    """Answer after the time that a real reservation system takes."""
    await asyncio.sleep(0.6)
    return {"booked": True, **args}

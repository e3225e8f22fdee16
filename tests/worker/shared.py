"""What the calls of a worker share, with the tools of TOOLS_DIR if that is set."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from common.observe import metrics
from common.settings.secret_store import Secrets
from common.settings.settings import Settings
from worker.config import instructions
from worker.config.prices import Prices
from worker.runner.resources import Resources
from worker.tools.tool_registry import ToolRegistry


@asynccontextmanager
async def resources(settings: Settings) -> AsyncIterator[Resources]:
    """Until the end of the test."""
    folder = settings.tools_dir if "tools_dir" in settings.model_fields_set else Path("no-such-folder")
    tools = ToolRegistry([folder], timeout_seconds=5.0, node=None)
    await tools.start()
    http = instructions.http_client()
    try:
        yield Resources(Secrets(settings), metrics.worker(), Prices.load(), tools, http)
    finally:
        await http.close()
        await tools.stop()

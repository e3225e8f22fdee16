"""What the calls of a worker share, without tools of anybody's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from common import metrics
from common.secret_store import Secrets
from common.settings import Settings
from worker import instructions
from worker.call import Resources
from worker.prices import Prices
from worker.tools.shed import ToolShed


@asynccontextmanager
async def resources(settings: Settings) -> AsyncIterator[Resources]:
    """Until the end of the test."""
    tools = ToolShed(Path("no-such-folder"), timeout_seconds=5.0, node=None)
    await tools.start()
    http = instructions.http_client()
    try:
        yield Resources(Secrets(settings), metrics.worker(), Prices.load(), tools, http)
    finally:
        await http.close()
        await tools.stop()

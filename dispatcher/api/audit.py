"""Audit lines: who read, erased or retried what. They never have its content."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final

import structlog
from aiohttp import web

from common.net.addresses import plain
from common.observe.line_limit import shown

CONVERSATION_SECONDS: Final = 60.0
"""Minimum time between two lines of one peer that reads one call's conversation, as the page does each second."""

MAX_READERS: Final = 1000
"""Maximum number of peers and calls whose reads are counted; beyond it, the oldest read is forgotten."""

log = structlog.get_logger()


def audit(event: str, request: web.Request, *, uuid: str = "", **fields: object) -> None:
    """Log an access to what was said, or to call records.

    Args:
        event: what was done.
        request: by whom.
        uuid: of the call, as the peer wrote it.
        fields: figures.
    """
    named = {"uuid": shown(uuid)} if uuid else {}
    log.info(event, peer=plain(request.remote or ""), **named, **fields)


class ConversationAudit:
    """Logs reads of live conversations, at most one line a minute for each peer and call."""

    def __init__(self, seconds: float = CONVERSATION_SECONDS) -> None:
        self._seconds = seconds
        self._readers: OrderedDict[tuple[str | None, str], tuple[float, int]] = OrderedDict()

    def read(self, request: web.Request, uuid: str) -> None:
        """Note that a peer reads a call's conversation."""
        key = request.remote, uuid
        now = time.monotonic()
        logged, times = self._readers.pop(key, (float("-inf"), 0))
        if now - logged >= self._seconds:
            audit("conversation read", request, uuid=uuid, times=times + 1)
            logged, times = now, 0
        else:
            times += 1
        self._readers[key] = logged, times
        if len(self._readers) > MAX_READERS:
            self._readers.popitem(last=False)

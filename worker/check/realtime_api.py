"""The check of the Realtime API: opens a session with the key and the model of the settings, and closes it.

No response is asked for, so the check costs nothing. An account without quota may therefore be noticed only by the
first call.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from common.check.check import Check
from common.check.finding import Finding, State
from common.errors import UpstreamError
from common.settings.models import realtime_url
from common.settings.settings import Settings
from worker.realtime import dialect
from worker.realtime.connection import RealtimeConnection
from worker.realtime.errors import ErrorEvent

NAME: Final = "Realtime API"

_OPENED: Final = frozenset({"session.created", "conversation.created"})
"""First events of a session; xAI sends the second one alone."""

CLOSE_SECONDS: Final = 1.0

_TODO: Final = {
    "invalid_api_key": "set OPENAI_API_KEY to a key of this account: https://platform.openai.com/api-keys",
    "model_not_found": "set OPENAI_MODEL to a realtime model that this account has",
    "invalid_model": "set OPENAI_MODEL to a realtime model",
    "insufficient_quota": "add credit: https://platform.openai.com/settings/organization/billing",
    "dns": "correct OPENAI_BASE_URL, or this host's name server",
    "tls": "correct OPENAI_BASE_URL; if a firewall opens TLS, name its CA in SSL_CERT_FILE",
    "proxy": "correct HTTPS_PROXY, or name the host in NO_PROXY",
    "connect": "correct OPENAI_BASE_URL, or open the firewall",
}
PASSES: Final = "try again later: calls wait for UPSTREAM_RETRY_SECONDS"
_REFUSED: Final = "correct OPENAI_API_KEY, OPENAI_MODEL or OPENAI_BASE_URL"


class Opening:
    """The first events of a session. It is the owner of a connection.

    Attributes:
        opened: done when the session is there; fails with `UpstreamError` if it will not be.
    """

    def __init__(self) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def event(self, event: dict[str, Any], received_seconds: float) -> None:
        """Take the first events, of which one may be an error."""
        if event["type"] in _OPENED:
            if not self.opened.done():
                self.opened.set_result(None)
        elif event["type"] == "error":
            error = event.get("error")
            told = ErrorEvent.from_event(error if isinstance(error, dict) else {})
            self._fail(UpstreamError(told.message, code=told.code, retryable=told.is_outage))

    def unreadable(self) -> None:
        """Fail, because the service speaks another protocol."""
        self._fail(UpstreamError("it sent a message that is no event", code="event", retryable=False))

    def upstream_writable(self) -> None:
        """Do nothing, because nothing is sent."""

    def connection_lost(self, reason: str) -> None:
        """Fail, because the connection ended before the session was there."""
        self._fail(UpstreamError(f"it ended the connection: {reason}", code="closed", retryable=True))

    def _fail(self, error: UpstreamError) -> None:
        if not self.opened.done():
            self.opened.set_exception(error)


def check(settings: Settings) -> Check:
    """Return the check."""
    host = urlsplit(realtime_url(settings.openai_base_url)).netloc.rpartition("@")[2]
    value = f"{settings.openai_model} at {host}"

    async def look() -> Sequence[Finding]:
        began_seconds = time.monotonic()
        try:
            await _open(settings)
        except UpstreamError as error:
            todo = _TODO.get(error.code, PASSES if error.retryable else _REFUSED)
            return [Finding(NAME, State.FAIL, value, str(error), todo)]
        took_ms = (time.monotonic() - began_seconds) * 1000
        return [Finding(NAME, State.OK, value, f"a session opened within {took_ms:.0f} ms")]

    return Check(NAME, value, look, late="check OPENAI_BASE_URL, HTTPS_PROXY and the firewalls on the way")


async def _open(settings: Settings) -> None:
    """Open a session, and close it.

    Raises:
        UpstreamError: there was none.
    """
    spoken = dialect.choose(settings.openai_base_url, settings.openai_model)
    key = settings.openai_api_key.get_secret_value()
    headers = spoken.headers(key, settings.openai_organization, settings.openai_project)
    opening = Opening()
    connection = RealtimeConnection(opening)
    url = spoken.url(settings.openai_base_url, settings.openai_model)
    try:
        await connection.open(url, headers, key, proxies=settings.proxies)
        await opening.opened
        connection.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(connection.wait_closed(), CLOSE_SECONDS)
    finally:
        connection.abort()

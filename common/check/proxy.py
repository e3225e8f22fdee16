"""The check of the HTTP proxies: whether they can be reached, and whether the Realtime API uses one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import urlsplit

from common.check.check import Check
from common.check.finding import Finding, State
from common.settings.models import realtime_url
from common.settings.settings import Settings


def checks(settings: Settings) -> list[Check]:
    """Return a check for each proxy that is set."""
    named = (("HTTPS_PROXY", settings.https_proxy), ("HTTP_PROXY", settings.http_proxy))
    used = settings.proxies.of(realtime_url(settings.openai_base_url))
    return [_check(name, url, is_used=url == used) for name, url in named if url is not None]


def _check(name: str, url: str, *, is_used: bool) -> Check:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    value = f"{host}:{port}"

    async def look() -> Sequence[Finding]:
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError as error:
            what = f"cannot be reached: {error.strerror or error}"
            return [Finding(name, State.FAIL, value, what, f"correct or unset {name}, or name hosts in NO_PROXY")]
        writer.close()
        api = "the Realtime API is reached through it" if is_used else "the Realtime API is reached without it"
        return [Finding(name, State.OK, value, f"can be reached; {api}")]

    return Check(name, value, look, late=f"check {name}, and the firewalls on the way to it")

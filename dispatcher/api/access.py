"""Who may look at calls, and touch them: this host, or who has ADMIN_TOKEN."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from common.net.addresses import is_loopback
from common.net.tokens import Token, bearer


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request is not answered: an HTTP status, and what its sender may do about it."""

    status: int
    message: str


class Access:
    """What callers say is not for everybody."""

    def __init__(self, token: Token | None) -> None:
        self._token = token

    def to_page(self, request: web.Request) -> Refusal | None:
        """Why the page's files are refused. They hold nothing: with a token, it is the page that asks for it."""
        if self._token is not None:
            return None
        if not is_loopback(request.remote):
            return Refusal(403, "the calls API answers on loopback only, unless ADMIN_TOKEN is set")
        # Loopback alone proves nothing of a browser, in which other people's pages run, too.
        if not _names_this_host(request):
            return Refusal(403, "without ADMIN_TOKEN, call this host localhost, or by its address")
        if _is_of_another_page(request):
            return Refusal(403, "without ADMIN_TOKEN, pages of other origins may not use the calls API")
        return None

    def to_calls(self, request: web.Request) -> Refusal | None:
        """Why the calls API is refused.

        A token is asked of loopback, too: a proxy on this host would lend it to the whole world.
        """
        if self._token is not None and not self._token.accepts(bearer(request.headers.get(hdrs.AUTHORIZATION))):
            return Refusal(401, "bring ADMIN_TOKEN: Authorization: Bearer ...")
        return self.to_page(request)


def _names_this_host(request: web.Request) -> bool:
    """Whether the request is for an address, or a name of this host.

    A page of a site whose name its owner lets point to 127.0.0.1 (DNS rebinding) has the same origin as this one.
    """
    try:
        name = (urlsplit(f"//{request.host}").hostname or "").rstrip(".")
        if name in {"localhost", socket.gethostname().lower()} or name.endswith(".localhost"):
            return True
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_of_another_page(request: web.Request) -> bool:
    """Whether a page that is not ours sends this, which browsers let it do without reading the answer."""
    origin = request.headers.get(hdrs.ORIGIN)
    return origin is not None and origin.partition("://")[2].lower() != request.host.lower()

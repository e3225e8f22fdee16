"""Access to the calls API and its page: requests with ADMIN_TOKEN, or from this host if no token is set."""

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
    """The refusal of a request: an HTTP status, and a message that tells the sender what to do."""

    status: int
    message: str


class Access:
    """The access rules, which protect the callers' words."""

    def __init__(self, token: Token | None) -> None:
        self._token = token

    def to_page(self, request: web.Request) -> Refusal | None:
        """Return why the page's files are refused, or None.

        With a token, everybody may load the files. They contain no data, and the page asks people for the token.
        """
        if self._token is not None:
            return None
        if not is_loopback(request.remote):
            return Refusal(403, "the calls API answers on loopback only, unless ADMIN_TOKEN is set")
        # A request from loopback may come from a browser in which another site's page runs.
        if not _names_this_host(request):
            return Refusal(403, "without ADMIN_TOKEN, call this host localhost, or by its address")
        if is_of_another_page(request):
            return Refusal(403, "without ADMIN_TOKEN, pages of other origins may not use the calls API")
        return None

    def to_calls(self, request: web.Request) -> Refusal | None:
        """Return why the calls API is refused, or None.

        Requests from loopback need the token, too, because a proxy on this host forwards requests from everywhere.
        """
        if self._token is not None and not self._token.accepts(bearer(request.headers.get(hdrs.AUTHORIZATION))):
            return Refusal(401, "send ADMIN_TOKEN: Authorization: Bearer ...")
        return self.to_page(request)


def _names_this_host(request: web.Request) -> bool:
    """Return whether the request's Host is an address, or a name of this host.

    This check prevents DNS rebinding. A site's owner can let the site's name point to 127.0.0.1. The site's pages
    then have the same origin as this page.
    """
    try:
        name = (urlsplit(f"//{request.host}").hostname or "").rstrip(".")
        if name in {"localhost", socket.gethostname().lower()} or name.endswith(".localhost"):
            return True
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_of_another_page(request: web.Request) -> bool:
    """Return whether a page of another origin sends the request; browsers permit it without reading the answer.

    Browsers never let a page choose the header `Origin`. Programs that are no browsers need not send it.
    """
    origin = request.headers.get(hdrs.ORIGIN)
    return origin is not None and origin.partition("://")[2].lower() != request.host.lower()

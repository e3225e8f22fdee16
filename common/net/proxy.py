"""HTTP proxies: which connections go through one, and the tunnel through it (CONNECT, RFC 9110, section 9.3.6).

The variables mean the same as in curl and Go: HTTPS_PROXY for https and wss, HTTP_PROXY for http and ws, and
NO_PROXY for hosts that are reached directly. Loopback is always reached directly, as in Go.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # typeshed leaves it out

from websockets.proxy import parse_proxy, prepare_connect_request
from websockets.uri import parse_uri

from common.errors import ProxyFailed
from common.net.addresses import is_loopback

MAX_ANSWER_BYTES: Final = 16_384
"""Bound of a proxy's answer to CONNECT: only headers, because nothing follows them before the client sends."""

_VARIABLES: Final = {"https": "HTTPS_PROXY", "wss": "HTTPS_PROXY", "http": "HTTP_PROXY", "ws": "HTTP_PROXY"}
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})")
_WANTS_USER: Final = "it wants another user or password: http://USER:PASSWORD@HOST:PORT"
_HINTS: Final = {
    401: _WANTS_USER,  # tinyproxy's answer to a wrong password
    403: "it does not allow this host: ask its operator, or add the host to NO_PROXY",
    407: _WANTS_USER,
}


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies of a process.

    Attributes:
        https: URL of the proxy for https and wss, with a user and password where the proxy wants them.
        http: the same for http and ws.
        direct: hosts that are reached directly, in the form of NO_PROXY: names, domains, addresses, networks, `*`.
    """

    https: str | None = None
    http: str | None = None
    direct: str = ""

    def of(self, url: str) -> str | None:
        """Return the URL of the proxy for a request; None: the request goes directly."""
        parts = urlsplit(url)
        proxy = self.https if _VARIABLES.get(parts.scheme) == "HTTPS_PROXY" else self.http
        return None if proxy is None or self._is_direct(parts) else proxy

    def _is_direct(self, parts: SplitResult) -> bool:
        host = parts.hostname or ""
        address = _address(host)
        if host == "localhost" or is_loopback(host):
            return True
        named = host if parts.port is None else f"{host}:{parts.port}"
        if proxy_bypass_environment(named, {"no": self.direct}):
            return True
        return address is not None and any(address in network for network in _networks(self.direct))


DIRECT: Final = Proxies()


async def tunnel(proxy: str, url: str) -> socket.socket:
    """Open a TCP connection through a proxy.

    Args:
        proxy: URL of the proxy, `http://`.
        url: of the WebSocket at the far end.

    Returns:
        a socket that is connected with the far end.

    Raises:
        ProxyFailed: the proxy cannot be reached, or refused.
    """
    parsed = parse_proxy(proxy)
    name = f"proxy {parsed.host}:{parsed.port} ({_VARIABLES[urlsplit(url).scheme]})"
    loop = asyncio.get_running_loop()
    try:
        addresses = await loop.getaddrinfo(parsed.host, parsed.port, type=socket.SOCK_STREAM)
        sock = await _connected([(family, address) for family, _, _, _, address in addresses])
    except OSError as error:
        raise ProxyFailed(f"the {name} cannot be reached: {error.strerror or error}", retryable=True) from error
    try:
        await loop.sock_sendall(sock, prepare_connect_request(parsed, parse_uri(url)))
        status = await _answer(sock)
        if not 200 <= status < 300:
            hint = _HINTS.get(status)
            message = f"the {name} answered HTTP {status}" + (f": {hint}" if hint else "")
            raise ProxyFailed(message, retryable=status >= 500 or status == 429)
    except OSError as error:
        sock.close()
        raise ProxyFailed(f"the {name} hung up: {error.strerror or error}", retryable=True) from error
    except BaseException:
        sock.close()
        raise
    return sock


async def _connected(addresses: list[tuple[int, tuple[object, ...]]]) -> socket.socket:
    """Connect to the first address that answers.

    Raises:
        OSError: the last address failed; its error.
    """
    failure = OSError("it has no address")
    for family, address in addresses:
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, address)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure


async def _answer(sock: socket.socket) -> int:
    """Read the answer to CONNECT and return its status."""
    loop = asyncio.get_running_loop()
    head = b""
    while b"\r\n\r\n" not in head:
        if len(head) > MAX_ANSWER_BYTES:
            raise OSError(f"its answer is longer than {MAX_ANSWER_BYTES} bytes")
        piece = await loop.sock_recv(sock, MAX_ANSWER_BYTES)
        if not piece:
            raise OSError("it closed the connection")
        head += piece
    status = _STATUS.match(head)
    if status is None:
        raise OSError("its answer is not HTTP")
    return int(status[1])


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _networks(direct: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    networks = []
    for entry in direct.split(","):
        if "/" in entry:
            try:
                networks.append(ipaddress.ip_network(entry.strip(), strict=False))
            except ValueError:
                continue  # not a network: the entry matches nothing
    return networks

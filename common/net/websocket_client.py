"""The connecting end of a WebSocket connection."""

from __future__ import annotations

import asyncio
import ssl as ssl_module
from collections.abc import Mapping

from websockets.exceptions import InvalidStatus, InvalidURI
from websockets.http11 import Response
from websockets.uri import WebSocketURI, parse_uri

from common.errors import HandshakeRefused
from common.net.frames import ClientFrames
from common.net.proxy import tunnel
from common.net.websocket import Owner, WebSocket
from common.net.websocket_limits import DEFAULT_LIMITS, Limits

# Enough of a refused handshake's body to name the cause.
MAX_REFUSAL_BODY_BYTES = 2048


class ClientWebSocket(WebSocket):
    """The connecting end."""

    def __init__(self, uri: WebSocketURI, headers: Mapping[str, str], owner: Owner, limits: Limits) -> None:
        protocol = ClientFrames(uri, max_size=limits.max_message_bytes)
        super().__init__(protocol, owner, limits)
        self._client_protocol = protocol
        self._headers = headers
        self.handshake: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        request = self._client_protocol.connect()
        request.headers.update(self._headers)
        self._client_protocol.send_request(request)
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self.handshake.done():
            self._handshake_failed(ConnectionError("it hung up during the opening handshake"))

    def _handshake_failed(self, error: Exception) -> None:
        if not self.handshake.done():
            self.handshake.set_exception(error)
            self.handshake.exception()  # `connect` gets it; it may have been given up by now
        self.abort()

    def _handshake_broken(self, error: Exception) -> None:
        hung_up = isinstance(error.__cause__, EOFError)
        reason = "it hung up during the opening handshake" if hung_up else f"not a WebSocket server: {error}"
        self._handshake_failed(ConnectionError(reason))

    def _response_received(self, response: Response) -> None:
        failure = self._client_protocol.handshake_exc
        if self.handshake.done():
            # `connect` has given up in this moment: the owner has no connection, and gets no message of this one.
            self._deaf = True
            self.abort()
            return
        if isinstance(failure, InvalidStatus):
            body = bytes(response.body)[:MAX_REFUSAL_BODY_BYTES]
            retry_after = response.headers.get("Retry-After")
            self._handshake_failed(HandshakeRefused(response.status_code, body, retry_after))
        elif failure is None:
            self._opened()
            self.handshake.set_result(None)
            if self._owner is not None:
                self._owner.opened(self)


async def connect(
    url: str,
    owner: Owner,
    *,
    headers: Mapping[str, str] | None = None,
    limits: Limits = DEFAULT_LIMITS,
    ssl: ssl_module.SSLContext | None = None,
    proxy: str | None = None,
) -> WebSocket:
    """Open a connection; the owner's `opened` is called before this returns.

    Args:
        url: `ws://` or `wss://`, query included.
        owner: receives the messages.
        headers: added to the opening handshake.
        limits: bounds; `open_timeout_seconds` covers everything up to the handshake's answer.
        ssl: for `wss://`; the system's trust store by default.
        proxy: URL of an HTTP proxy to go through; None: directly.

    Raises:
        ProxyFailed: the proxy cannot be reached, or refuses.
        HandshakeRefused: the server answered with another status than 101.
        OSError, ssl.SSLError: it could not be reached, or its certificate was not accepted.
        TimeoutError: it did not answer in time.
        ConnectionError: it hung up, or is not a WebSocket server.
        ValueError: the URL is no WebSocket's.
    """
    try:
        uri = parse_uri(url)
    except (InvalidURI, ValueError) as error:
        raise ValueError(f"not a WebSocket URL: {url!r}") from error
    loop = asyncio.get_running_loop()
    if uri.secure and ssl is None:
        ssl = ssl_module.create_default_context()
    connection: ClientWebSocket | None = None
    try:
        async with asyncio.timeout(limits.open_timeout_seconds):
            tls = ssl if uri.secure else None
            name = uri.host if uri.secure else None
            if proxy is None:
                _, connection = await loop.create_connection(
                    lambda: ClientWebSocket(uri, headers or {}, owner, limits),
                    uri.host,
                    uri.port,
                    ssl=tls,
                    server_hostname=name,
                )
            else:
                _, connection = await loop.create_connection(
                    lambda: ClientWebSocket(uri, headers or {}, owner, limits),
                    sock=await tunnel(proxy, url),
                    ssl=tls,
                    server_hostname=name,
                )
            await connection.handshake
    except BaseException:
        if connection is not None:
            connection.abort()
        raise
    return connection

"""The accepting end of a WebSocket connection."""

from __future__ import annotations

import dataclasses
import http
import socket
from collections.abc import Callable

from websockets.frames import CloseCode, Frame
from websockets.http11 import Request
from websockets.protocol import OPEN

from common.net.admission_control import AdmissionLimits
from common.net.frames import ServerFrames
from common.net.listener import Arrival, Listener, listen
from common.net.tls import Tls
from common.net.websocket import Owner, WebSocket
from common.net.websocket_limits import DEFAULT_LIMITS, Limits


class _Server(ServerFrames):
    """The library's server protocol, whose owner may send a last message and choose the close code."""

    owner_violated: Callable[[int, str], int]

    def fail(self, code: CloseCode | int, reason: str = "") -> None:
        if self.state is OPEN and code != CloseCode.ABNORMAL_CLOSURE:
            code = self.owner_violated(int(code), reason)
        super().fail(code, reason)


class ServerWebSocket(WebSocket):
    """The accepting end of a connection.

    Args:
        accept: see `serve`.
        limits: bounds of the connection.
        arrival: the arriving connection; None where arriving connections are not counted.
    """

    def __init__(
        self,
        accept: Callable[[Request, str], Owner | tuple[http.HTTPStatus, str]],
        limits: Limits,
        arrival: Arrival | None = None,
    ) -> None:
        # No extensions, so no permessage-deflate. Base64 of speech does not get smaller, and a few bytes could
        # inflate to megabytes. Each connection would need 300 KB for it.
        protocol = _Server(max_size=limits.max_message_bytes, extensions=None)
        protocol.owner_violated = self._violated
        super().__init__(protocol, None, limits)
        self._accept = accept
        self._server_protocol = protocol
        self._arrival = arrival

    def mark_identified(self) -> None:
        """See `WebSocket`."""
        super().mark_identified()
        if self._arrival is not None:
            self._arrival.mark_identified()

    def connection_lost(self, exc: Exception | None) -> None:
        self.mark_identified()
        super().connection_lost(exc)

    def _close_timeout_seconds(self) -> float:
        # A peer that never identified itself loses nothing but the reason.
        stranger = self._arrival is not None and self._arrival.counts
        return self._limits.linger_seconds if stranger else super()._close_timeout_seconds()

    def _violated(self, code: int, reason: str) -> int:
        try:
            # Messages before the broken one, in the same read, are still valid.
            for event in self._protocol.events_received():
                if isinstance(event, Frame):
                    self._frame_received(event)
            if self._owner is not None and self._protocol.state is OPEN:
                return self._owner.violated(code, reason)
        except Exception as error:
            # The parser calls this method and must not be interrupted by an exception.
            self._loop.call_exception_handler(
                {"message": "an owner failed on a broken message", "exception": error, "protocol": self}
            )
            self.abort()
        return code

    def _request_received(self, request: Request) -> None:
        if self._protocol.eof_sent:
            # The data behind the request, sent before our answer, was broken already.
            return
        protocol = self._server_protocol
        response = protocol.accept(request)
        if response.status_code == http.HTTPStatus.SWITCHING_PROTOCOLS:
            answer = self._accept(request, self.peer_address)
            if isinstance(answer, tuple):
                response = protocol.reject(*answer)
                if response.status_code == http.HTTPStatus.UNAUTHORIZED:
                    response.headers["WWW-Authenticate"] = "Bearer"
            else:
                self._owner = answer
        protocol.send_response(response)
        self._flush_soon()
        if self._owner is not None:
            self._opened()
            self._owner.opened(self)


async def serve(
    accept: Callable[[Request, str], Owner | tuple[http.HTTPStatus, str]],
    sock: socket.socket,
    *,
    limits: Limits = DEFAULT_LIMITS,
    tls: Tls | None = None,
    name: str = "",
) -> Listener:
    """Accept connections on a listening socket.

    Args:
        accept: called with the upgrade request and the peer's address; returns the connection's owner, or a status
            and one line of text for a refusal.
        sock: bound, and listening or not.
        limits: bounds of each connection.
        tls: for `wss://`.
        name: of the port, for the log.
    """
    admission = AdmissionLimits(open_seconds=limits.open_timeout_seconds)
    if limits.stranger_bytes is not None:
        admission = dataclasses.replace(
            admission, max_head_bytes=min(admission.max_head_bytes, limits.stranger_bytes)
        )
    return listen(
        lambda arrival, _: ServerWebSocket(accept, limits, arrival),
        sock,
        name=name,
        limits=admission,
        tls=tls,
    )

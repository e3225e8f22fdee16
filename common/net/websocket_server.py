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
    """Lets the owner say something, and choose the close code, before a connection is failed."""

    owner_violated: Callable[[int, str], int]

    def fail(self, code: CloseCode | int, reason: str = "") -> None:
        if self.state is OPEN and code != CloseCode.ABNORMAL_CLOSURE:
            code = self.owner_violated(int(code), reason)
        super().fail(code, reason)


class ServerWebSocket(WebSocket):
    """The accepting end.

    Args:
        accept: see `serve`.
        limits: bounds of the connection.
        arrival: how it came in; None where nobody counts.
    """

    def __init__(
        self,
        accept: Callable[[Request, str], Owner | tuple[http.HTTPStatus, str]],
        limits: Limits,
        arrival: Arrival | None = None,
    ) -> None:
        # Without extensions, so without permessage-deflate: base64 of speech does not get smaller, a few bytes
        # could become megabytes, and each connection would keep 300 KB for it.
        protocol = _Server(max_size=limits.max_message_bytes, extensions=None)
        protocol.owner_violated = self._violated
        super().__init__(protocol, None, limits)
        self._accept = accept
        self._server_protocol = protocol
        self._arrival = arrival

    def known(self) -> None:
        """See `WebSocket`."""
        super().known()
        if self._arrival is not None:
            self._arrival.known()

    def connection_lost(self, exc: Exception | None) -> None:
        self.known()
        super().connection_lost(exc)

    def _close_timeout_seconds(self) -> float:
        # Who has never said who it is has no more to lose than the reason.
        stranger = self._arrival is not None and self._arrival.counts
        return self._limits.linger_seconds if stranger else super()._close_timeout_seconds()

    def _violated(self, code: int, reason: str) -> int:
        try:
            # Messages that came in front of the broken one, in the same read, are still good.
            for event in self._protocol.events_received():
                if isinstance(event, Frame):
                    self._frame_received(event)
            if self._owner is not None and self._protocol.state is OPEN:
                return self._owner.violated(code, reason)
        except Exception as error:
            # This is called from within the parser, which must not be left in the middle.
            self._loop.call_exception_handler(
                {"message": "an owner failed on a broken message", "exception": error, "protocol": self}
            )
            self.abort()
        return code

    def _request_received(self, request: Request) -> None:
        if self._protocol.eof_sent:
            # What came behind the request, without waiting for the answer, was broken already.
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
        accept: called with the upgrade request and the peer's address; returns the connection's owner, or a
            status and one line of text to refuse it with.
        sock: bound, and listening or not.
        limits: bounds of each connection.
        tls: to speak `wss://`.
        name: of the port, for the log.
    """
    door = AdmissionLimits(open_seconds=limits.open_timeout_seconds)
    if limits.stranger_bytes is not None:
        door = dataclasses.replace(door, max_head_bytes=min(door.max_head_bytes, limits.stranger_bytes))
    return listen(
        lambda arrival, _: ServerWebSocket(accept, limits, arrival),
        sock,
        name=name,
        limits=door,
        tls=tls,
    )

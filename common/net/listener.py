"""A listening port that counts its connections, speaks TLS where TLS is set, and limits the time for a request.

A protocol handles the request itself (a WebSocket's, an HTTP server's), and takes over when the request's head is
whole. A slow peer therefore costs no more than the bytes of a head, and no more time than `open_seconds`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, cast

import structlog

from common.net.addresses import plain
from common.net.admission_control import ANSWERS, DEFAULT_ADMISSION_LIMITS, AdmissionControl, AdmissionLimits
from common.net.ports import BACKLOG
from common.net.tls import Tls
from common.observe.refusals import Refusal

ACCEPTED_AT_ONCE: Final = 64
"""Maximum number of connections in one turn of the event loop, so that calls under way are served in between."""

_HEAD_END: Final = b"\r\n\r\n"

_log = structlog.get_logger()


class Arrival:
    """An arriving connection: its peer has not identified itself yet.

    Attributes:
        address: the peer's IP address; empty where it has none.
        since_seconds: time of TCP's accept, on the clock of `time.monotonic`.
        counts: the connection counts as arriving.
    """

    def __init__(self, admission: AdmissionControl, address: str) -> None:
        self.address = address
        self.since_seconds = time.monotonic()
        self._admission = admission
        self.counts = True

    def mark_identified(self) -> None:
        """Stop counting the connection: its peer has identified itself, or is gone. May be called again."""
        if self.counts:
            self.counts = False
            self._admission.leave(self.address)

    def refuse(self, refusal: Refusal, detail: str = "") -> None:
        """Count a refusal; the caller tells the peer.

        Args:
            refusal: the reason.
            detail: for the log; never text that the peer may have chosen.
        """
        self._admission.refuse(refusal, self.address, time.monotonic(), detail)


ProtocolFactory = Callable[[Arrival, bytes], asyncio.Protocol]
"""Makes the protocol that takes over a connection; the bytes begin with the whole head of the request.

The protocol gets `connection_made`, and then the same bytes by `data_received`. The protocol must call
`Arrival.mark_identified`, at the latest when the connection is lost.
"""


class Listener:
    """A listening port, made by `listen`."""

    def __init__(self, admission: AdmissionControl, make: ProtocolFactory, tls: Tls | None, name: str) -> None:
        self.admission = admission
        self.make = make
        self.tls = tls
        self.lingering = 0
        self.arriving: set[_Arriving] = set()
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._sock: socket.socket | None = None
        self._refused: dict[socket.socket, asyncio.TimerHandle] = {}
        self._resuming: asyncio.TimerHandle | None = None

    def start(self, sock: socket.socket) -> None:
        """Accept connections.

        The loop's `create_server` is not used: with TLS it reports a connection only after the handshake, so
        handshakes under way could not be counted.
        """
        sock.setblocking(False)
        sock.listen(BACKLOG)
        self._sock = sock
        self._loop.add_reader(sock, self._accept)

    def close(self) -> None:
        """Accept no more connections; arriving ones may still send their request."""
        if self._sock is not None:
            self._loop.remove_reader(self._sock)
            self._sock.close()
            self._sock = None
        if self._resuming is not None:
            self._resuming.cancel()

    def abort(self) -> None:
        """Accept no more connections, and drop the arriving ones."""
        self.close()
        for each in list(self.arriving):
            each.abort()
        for connection in list(self._refused):
            self._close_refused(connection)

    def may_linger(self) -> bool:
        """Count one more lingering connection if there is room; `lingered` must follow."""
        if self.lingering >= self.admission.limits.lingering:
            return False
        self.lingering += 1
        return True

    def lingered(self) -> None:
        """Stop counting a lingering connection."""
        self.lingering -= 1

    def _accept(self) -> None:
        assert self._sock is not None
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                connection, peer = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return
            except OSError as error:
                self._pause(error)
                return
            connection.setblocking(False)
            self._admit(connection, plain(peer[0]) if isinstance(peer, tuple) else "")

    def _admit(self, connection: socket.socket, address: str) -> None:
        refusal = self.admission.enter(address)
        if refusal is None:
            self.arriving.add(_Arriving(self, connection, Arrival(self.admission, address)))
            return
        self.admission.refuse(refusal, address, time.monotonic())
        # With TLS an answer would cost a handshake, which is the aim of a flood.
        if self.tls is not None or not self.may_linger():
            connection.close()
            return
        with contextlib.suppress(OSError):
            connection.send(_response(*ANSWERS[refusal]))
            connection.shutdown(socket.SHUT_WR)
        closing = self._loop.call_later(self.admission.limits.linger_seconds, self._close_refused, connection)
        self._refused[connection] = closing

    def _close_refused(self, connection: socket.socket) -> None:
        self._refused.pop(connection).cancel()
        connection.close()
        self.lingered()

    def _pause(self, error: OSError) -> None:
        """Stop accepting for a moment, because file descriptors or memory have run out."""
        assert self._sock is not None
        _log.error("connections cannot be accepted", port=self._name, reason=error.strerror)
        self._loop.remove_reader(self._sock)
        self._resuming = self._loop.call_later(self.admission.limits.pause_seconds, self._resume)

    def _resume(self) -> None:
        if self._sock is not None:
            self._loop.add_reader(self._sock, self._accept)


def listen(
    make: ProtocolFactory,
    sock: socket.socket,
    *,
    name: str,
    limits: AdmissionLimits = DEFAULT_ADMISSION_LIMITS,
    tls: Tls | None = None,
    refused: Callable[[Refusal], None] = lambda _: None,
) -> Listener:
    """Accept connections on a socket.

    Args:
        make: see `ProtocolFactory`.
        sock: bound, and listening or not.
        name: of the port, for the log.
        limits: bounds of arriving connections.
        tls: for TLS; plain connections are then refused.
        refused: called with each refusal, to count it.
    """

    def report(refusal: Refusal, times: int, address: str, detail: str) -> None:
        more = {"detail": detail} if detail else {}
        _log.warning("connections refused", port=name, reason=refusal.value, times=times, address=address, **more)

    listener = Listener(AdmissionControl(limits, refused=refused, report=report), make, tls, name)
    listener.start(sock)
    return listener


class _Arriving(asyncio.Protocol):
    """A connection from TCP's accept to the end of the request's head."""

    def __init__(self, listener: Listener, connection: socket.socket, arrival: Arrival) -> None:
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._arrival: Arrival | None = arrival
        self._transport: asyncio.Transport | None = None
        self._head = bytearray()
        self._lingers = False
        seconds = listener.admission.limits.open_seconds
        self._timer = self._loop.call_later(seconds, self._refuse, Refusal.TOO_SLOW)
        self._opening = self._loop.create_task(self._open(connection, 2 * seconds))
        self._opening.add_done_callback(lambda _: self._opened(connection))

    def abort(self) -> None:
        """Drop the connection."""
        self._leave()
        if self._transport is None:
            self._opening.cancel()
        else:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Read the request from now on: TCP is connected, or TLS on top of it."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not subclasses
        if self._arrival is None:
            self._transport.abort()  # the connection was refused in this moment

    def data_received(self, data: bytes) -> None:
        """Take a piece of the head."""
        if self._arrival is None:
            return  # refused; the peer has not read the answer yet
        searched_to = max(0, len(self._head) - len(_HEAD_END) + 1)
        self._head += data
        self._examine(searched_to)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop counting a connection that was lost before its request, or after its refusal."""
        self._leave()
        if self._lingers:
            self._lingers = False
            self._listener.lingered()

    async def _open(self, connection: socket.socket, handshake_seconds: float) -> None:
        tls = self._listener.tls
        try:
            if tls is None:
                await self._loop.connect_accepted_socket(lambda: self, connection)
            else:
                await self._loop.connect_accepted_socket(
                    lambda: self, connection, ssl=tls.context, ssl_handshake_timeout=handshake_seconds
                )
        except ssl.SSLError as error:
            self._refuse(Refusal.TLS, error.reason or type(error).__name__)
        except OSError:
            # The peer hung up, as a load balancer does when it checks the port.
            self._leave()

    def _opened(self, connection: socket.socket) -> None:
        if self._transport is None:
            connection.close()
            self._leave()

    def _examine(self, start: int) -> None:
        """Hand the connection over if the head is whole.

        Args:
            start: offset up to which the data was searched before.
        """
        max_head_bytes = self._listener.admission.limits.max_head_bytes
        end = self._head.find(_HEAD_END, start)
        if not ord("A") <= self._head[0] <= ord("Z"):
            self._refuse(Refusal.NOT_HTTP)
        elif end + len(_HEAD_END) > max_head_bytes or (end < 0 and len(self._head) >= max_head_bytes):
            self._refuse(Refusal.HEAD_TOO_BIG)
        elif end >= 0:
            self._hand_over()

    def _hand_over(self) -> None:
        arrival, transport = self._arrival, self._transport
        assert arrival is not None
        assert transport is not None
        protocol = self._listener.make(arrival, bytes(self._head))
        self._stop_waiting()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(bytes(self._head))

    def _refuse(self, refusal: Refusal, detail: str = "") -> None:
        if self._arrival is None:
            return  # lost already, or refused for another reason
        self._arrival.refuse(refusal, detail)
        answer, transport = ANSWERS.get(refusal), self._transport
        if transport is None or answer is None or not self._listener.may_linger():
            self.abort()
            return
        self._leave()
        self._lingers = True
        transport.write(_response(*answer))
        end = transport.close
        if transport.can_write_eof():
            transport.write_eof()
            end = transport.abort
        self._loop.call_later(self._listener.admission.limits.linger_seconds, end)

    def _leave(self) -> None:
        """Stop counting the connection as arriving."""
        self._stop_waiting()
        if self._arrival is not None:
            self._arrival.mark_identified()
            self._arrival = None

    def _stop_waiting(self) -> None:
        self._listener.arriving.discard(self)
        self._timer.cancel()


def _response(status: HTTPStatus, text: str) -> bytes:
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(text)}\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
    )
    return (head + text).encode("ascii")

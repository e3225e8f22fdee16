"""One end of a link: a WebSocket that carries records, and the exchange of HELLOs before them."""

from __future__ import annotations

import asyncio
import time
from typing import Final
from typing import Protocol as Interface

import structlog
from websockets.typing import BytesLike

from common.errors import LinkProtocolError
from common.link import wire
from common.link.token_handshake import DISPATCHER, AuthenticationFailed, TokenHandshake
from common.link.wire import Hello, Kind
from common.net.tokens import Token
from common.net.websocket import WebSocket
from common.net.websocket_limits import Limits
from common.observe.line_limit import LineLimit, shown

# A peer counts as lost after 2.3 to 2.55 s without a byte; pings make sure that a live peer sends some. A worker
# that stalled for less than 2 s has therefore not been replaced (worker/service.py). A hung one is replaced within
# 3 s. Each call's credit bounds the unread data: the write buffer has room for the credit of a thousand calls.
LINK_LIMITS = Limits(
    max_message_bytes=wire.MAX_MESSAGE_BYTES,
    open_timeout_seconds=2.0,
    ping_interval_seconds=0.25,
    silence_timeout_seconds=2.3,
    max_write_buffer_bytes=1000 * wire.REPLY_CREDIT_BYTES,
    # HELLO and PROOF have about 400 bytes.
    stranger_bytes=4096,
)
# Time from the opening of the WebSocket to the peer's HELLO, and its proof of CLUSTER_TOKEN.
HELLO_SECONDS: Final = 2.0
MAX_HELLO_FIELD_CHARS: Final = 256

log = structlog.get_logger()


class LinkOwner(Interface):
    """The receiver of a link's events."""

    def greeted(self, hello: Hello) -> None:
        """Begin to receive records: the peer has sent HELLO and proved that it knows CLUSTER_TOKEN."""

    def record(self, kind: int, channel: int, payload: memoryview, received_seconds: float) -> None:
        """Receive one record, read from the socket at this time; may raise LinkProtocolError."""

    def caught_up(self) -> None:
        """Note that all records of one read have been delivered."""

    def lost(self, reason: str) -> None:
        """Note that the link is lost or unusable. Called exactly once, even without a HELLO."""


class LinkEnd:
    """An `Owner` of a WebSocket that speaks the link protocol."""

    def __init__(
        self,
        hello: Hello,
        owner: LinkOwner,
        token: Token | None = None,
        lines: LineLimit | None = None,
        *,
        hello_seconds: float = HELLO_SECONDS,
    ) -> None:
        """Create the end of a link.

        Args:
            hello: of this end.
            owner: receives the link's events.
            token: CLUSTER_TOKEN.
            lines: limits the log lines about refused links; shared by all links of a process.
            hello_seconds: maximum time from the opening of the WebSocket to the peer's HELLO and proof.
        """
        self._hello_seconds = hello_seconds
        self._handshake = TokenHandshake(hello, token)
        self._lines = lines or LineLimit()
        self._peer: Hello | None = None
        self._owner = owner
        self._connection: WebSocket | None = None
        self._is_up = False
        self._hello_timer: asyncio.TimerHandle | None = None
        self._records: list[bytes] = []
        self._records_bytes = 0
        self._lost = False

    @property
    def is_open(self) -> bool:
        """Whether records can be sent."""
        return self._connection is not None and self._connection.is_open

    @property
    def connection(self) -> WebSocket | None:
        """The WebSocket, once it is open."""
        return self._connection

    def send(self, record: bytes) -> None:
        """Send an encoded record, together with all others of this turn of the event loop.

        The record is dropped if the link is not open: HELLO must be the first record.
        """
        if not self._records:
            if not self.is_open:
                return
            asyncio.get_running_loop().call_soon(self._flush)
        elif self._records_bytes + len(record) > wire.MAX_MESSAGE_BYTES:
            self._flush()
        self._records.append(record)
        self._records_bytes += len(record)

    def close(self, reason: str) -> None:
        """Close the link with a closing handshake."""
        if self._connection is not None:
            self._flush()
            self._connection.close(1000, reason)

    def abort(self) -> None:
        """Drop the link without a closing handshake."""
        if self._connection is not None:
            self._connection.abort()

    # Owner of the WebSocket

    def opened(self, connection: WebSocket) -> None:
        """Send HELLO."""
        self._connection = connection
        self.send(self._handshake.greeting)
        # Sent alone: with records of the same turn it could exceed the bound of a stranger's bytes.
        self._flush()
        seconds = self._hello_seconds
        loop = asyncio.get_running_loop()
        self._hello_timer = loop.call_later(seconds, self._fail, f"no HELLO within {seconds:g} s")

    def received(self, data: BytesLike, text: bool) -> None:
        """Split a message into records and deliver them."""
        assert self._connection is not None
        received_seconds = self._connection.received_seconds
        try:
            if text:
                raise LinkProtocolError("a text message on a link")
            for kind, channel, payload in wire.decode(data):
                if self._is_up:
                    self._owner.record(kind, channel, payload, received_seconds)
                else:
                    self._greet(kind, payload)
                if self._lost:
                    break
        except LinkProtocolError as error:
            self._fail(str(error), "token" if isinstance(error, AuthenticationFailed) else "protocol")

    def caught_up(self) -> None:
        """Tell the owner, if the link is up."""
        if self._is_up and not self._lost:
            self._owner.caught_up()

    def violated(self, code: int, reason: str) -> int:
        """Report the loss; the close code of the WebSocket layer stays."""
        self._report_lost(reason, "protocol")
        return code

    def writable(self) -> None:
        """Ignore: each call's credit bounds the buffered data."""

    def closed(self, code: int, reason: str) -> None:
        """Report the loss."""
        self._report_lost(reason or f"closed with code {code}", "closed")

    def _fail(self, reason: str, kind: str = "silent") -> None:
        """Close an unusable link; its owner is told now, before the peer has answered."""
        assert self._connection is not None
        # A HELLO that waits for the end of this turn is sent first, so that the peer can find the problem, too.
        self._flush()
        self._connection.close(1002, reason)
        self._report_lost(reason, kind)

    def _report_lost(self, reason: str, kind: str) -> None:
        """Tell the owner once that the link is lost.

        Args:
            reason: for people.
            kind: of the log line, for a link that was never up.
        """
        if self._hello_timer is not None:
            self._hello_timer.cancel()
        if not self._lost:
            self._lost = True
            if not self._is_up:
                self._log_refused(reason, kind)
            self._owner.lost(reason)

    def _log_refused(self, reason: str, kind: str) -> None:
        if self._handshake.hello.role == DISPATCHER and kind != "token":
            # The code that opens the link gets the reason, and logs it.
            return
        times = self._lines.take(kind, time.monotonic())
        if times is not None:
            peer = shown(f"{self._peer.role} {self._peer.id}") if self._peer is not None else ""
            address = self._connection.peer_address if self._connection is not None else ""
            log.warning("link refused", peer=peer, address=address, reason=shown(reason), times=times)

    def _greet(self, kind: int, payload: memoryview) -> None:
        if self._peer is None:
            if kind != Kind.HELLO:
                raise LinkProtocolError(f"record {kind} before HELLO")
            hello = wire.decode_control(Hello, payload)
            _check(hello)
            self._peer = hello
            answers = self._handshake.greeted(self._peer, bytes(payload))
        else:
            answers = self._handshake.proved(kind, bytes(payload))
        for record in answers:
            self.send(record)
        if not self._handshake.is_done:
            return
        self._is_up = True
        if self._hello_timer is not None:
            self._hello_timer.cancel()
        assert self._connection is not None
        self._connection.mark_identified()
        self._owner.greeted(self._peer)

    def _flush(self) -> None:
        records, self._records, self._records_bytes = self._records, [], 0
        if self._connection is not None and records:
            self._connection.send_binary(b"".join(records))


def _check(hello: Hello) -> None:
    for name in ("release", "role", "id", "boot_id", "challenge"):
        length = len(getattr(hello, name))
        if length > MAX_HELLO_FIELD_CHARS:
            raise LinkProtocolError(
                f"the {name} of a HELLO has {length} characters: at most {MAX_HELLO_FIELD_CHARS} are allowed"
            )
    if hello.protocol < wire.OLDEST_PROTOCOL_VERSION:
        raise LinkProtocolError(
            f"release {hello.release[:20]} has link protocol {hello.protocol}, older than "
            f"{wire.OLDEST_PROTOCOL_VERSION}: drain it, then switch (docs/releases.md)"
        )

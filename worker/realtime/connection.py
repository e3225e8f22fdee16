"""The connection to the Realtime API. It is opened with the account's key, and passes events to the call."""

from __future__ import annotations

import functools
import json
import socket
import ssl
from collections.abc import Mapping
from typing import Any
from typing import Protocol as Interface

import orjson
from websockets.typing import BytesLike

from common.errors import HandshakeRefused, ProxyFailed, UpstreamError
from common.net.proxy import DIRECT, Proxies
from common.net.websocket import WebSocket
from common.net.websocket_client import connect
from common.net.websocket_limits import Limits
from common.observe import redaction
from worker.realtime import errors

# A delta has some 10 KiB, but `session.updated` repeats all instructions and tools.
REALTIME_LIMITS = Limits(
    max_message_bytes=8 * 1024 * 1024,
    open_timeout_seconds=10.0,
    # A stalled connection is detected within 12 s, during which the caller hears silence. Each pong also shows
    # which messages the API has read.
    ping_interval_seconds=2.0,
    silence_timeout_seconds=10.0,
)


@functools.cache
def _tls() -> ssl.SSLContext:
    # Reading the system's certificates blocks all calls for 40 ms, so it happens once per process.
    return ssl.create_default_context()


class RealtimeOwner(Interface):
    """The receiver of a connection's events, such as a call."""

    def event(self, event: dict[str, Any], received_seconds: float) -> None:
        """Handle an event of the API that was read from the socket at `received_seconds`."""

    def unreadable(self) -> None:
        """Handle a message that is not an event."""

    def upstream_writable(self) -> None:
        """Continue to send, because the API reads again."""

    def connection_lost(self, reason: str) -> None:
        """Handle the loss of the connection."""


def _lenient(data: BytesLike) -> Any:
    """Parse JSON with a lone surrogate (half an emoji), which `orjson` refuses. Return None for invalid JSON."""
    try:
        return _whole(json.loads(bytes(data).decode("utf-8", "replace")))
    except (ValueError, RecursionError):
        return None


def _whole(value: Any) -> Any:
    """Replace each lone surrogate in a value by U+FFFD, because UTF-8 cannot encode lone surrogates."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_whole(each) for each in value]
    if isinstance(value, dict):
        return {_whole(name): _whole(each) for name, each in value.items()}
    return value


class RealtimeConnection:
    """One connection to the Realtime API. It is the `Owner` of its WebSocket."""

    def __init__(self, owner: RealtimeOwner) -> None:
        self._owner: RealtimeOwner | None = owner
        self._connection: WebSocket | None = None

    @property
    def write_paused(self) -> bool:
        """Whether the send buffer is full because the API does not read."""
        return self._connection is not None and self._connection.write_paused

    @property
    def answered_seconds(self) -> float:
        """The API has read all messages that were sent before this time."""
        return float("-inf") if self._connection is None else self._connection.answered_seconds

    @property
    def received_seconds(self) -> float:
        """Time of the last read from the socket."""
        return float("-inf") if self._connection is None else self._connection.received_seconds

    async def open(self, url: str, headers: Mapping[str, str], api_key: str, *, proxies: Proxies = DIRECT) -> None:
        """Connect.

        Args:
            url: `ws(s)://...`, with its query.
            headers: headers of the handshake, including the key.
            api_key: the same key, to be redacted from the service's answer.
            proxies: the proxies to use.

        Raises:
            UpstreamError: the connection failed; the message names the cause and never contains the key.
        """
        try:
            self._connection = await connect(
                url,
                self,
                headers=headers,
                limits=REALTIME_LIMITS,
                ssl=_tls() if url.startswith("wss:") else None,
                proxy=proxies.of(url),
            )
        except HandshakeRefused as error:
            body = error.body.replace(api_key.encode(), redaction.REDACTED.encode())
            raise errors.from_handshake(error.status, body, error.retry_after) from error
        except ProxyFailed as error:
            raise UpstreamError(str(error), code="proxy", retryable=error.retryable) from error
        except ssl.SSLCertVerificationError as error:
            message = f"the certificate of the Realtime API was not accepted: {error.verify_message}"
            raise UpstreamError(message, code="tls", retryable=False) from error
        except TimeoutError as error:
            message = f"the Realtime API did not answer within {REALTIME_LIMITS.open_timeout_seconds:g} s"
            raise UpstreamError(message, code="timeout", retryable=True) from error
        except socket.gaierror as error:
            message = f"the host of OPENAI_BASE_URL cannot be found: {error.strerror}"
            raise UpstreamError(message, code="dns", retryable=True) from error
        except OSError as error:
            message = f"the Realtime API cannot be reached: {error}: check OPENAI_BASE_URL and the network"
            raise UpstreamError(message, code="connect", retryable=True) from error

    def send(self, event: bytes) -> None:
        """Send an event (JSON)."""
        if self._connection is not None:
            self._connection.send_text(event)

    def suspend(self) -> None:
        """Stop reading, including buffered messages, until `resume`."""
        if self._connection is not None:
            self._connection.suspend()

    def resume(self) -> None:
        """Continue to read after `suspend`."""
        if self._connection is not None:
            self._connection.resume()

    def close(self) -> None:
        """Close the connection, and report nothing more to the owner."""
        self._owner = None
        if self._connection is not None:
            self._connection.close(1000)

    def abort(self) -> None:
        """Abort the connection without a closing handshake, and report nothing more to the owner."""
        self._owner = None
        if self._connection is not None:
            self._connection.abort()

    async def wait_closed(self) -> None:
        """Wait until the connection is closed."""
        if self._connection is not None:
            await self._connection.wait_closed()

    # Owner of the WebSocket

    def opened(self, connection: WebSocket) -> None:
        """Keep the opened WebSocket."""
        self._connection = connection

    def received(self, data: BytesLike, text: bool) -> None:
        """Pass one event to the owner."""
        if self._owner is None:
            return
        try:
            event = orjson.loads(data)
        except orjson.JSONDecodeError:
            event = _lenient(data)
        if isinstance(event, dict) and isinstance(event.get("type"), str):
            assert self._connection is not None
            self._owner.event(event, self._connection.received_seconds)
        else:
            self._owner.unreadable()

    def caught_up(self) -> None:
        """Do nothing, because each event is handled as soon as it is received."""

    def violated(self, code: int, reason: str) -> int:
        """Return the close code unchanged."""
        return code

    def writable(self) -> None:
        """Tell the owner that the API reads again."""
        if self._owner is not None:
            self._owner.upstream_writable()

    def closed(self, code: int, reason: str) -> None:
        """Report the loss to the owner, unless this side closed the connection."""
        owner, self._owner = self._owner, None
        if owner is not None:
            cause = f"closed with code {code}" if code != 1006 else "it broke off"
            owner.connection_lost(f"{cause}: {errors.redact(reason)}" if reason else cause)

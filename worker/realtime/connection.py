"""The connection to the Realtime API: opened with the account's key, its events handed to the call."""

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

# Deltas are some 10 KiB; `session.updated` repeats instructions and tools.
REALTIME_LIMITS = Limits(
    max_message_bytes=8 * 1024 * 1024,
    open_timeout_seconds=10.0,
    # A connection that has come to a stop is found within 12 s, which the caller spends in silence. Each answer
    # tells up to where the API has heard.
    ping_interval_seconds=2.0,
    silence_timeout_seconds=10.0,
)


@functools.cache
def _tls() -> ssl.SSLContext:
    # To read the system's certificates takes 40 ms, in which no call's audio moves: once per process.
    return ssl.create_default_context()


class RealtimeOwner(Interface):
    """The call that a connection serves."""

    def event(self, event: dict[str, Any], received_seconds: float) -> None:
        """An event of the API, read from its socket at this time."""

    def unreadable(self) -> None:
        """A message that is no event."""

    def upstream_writable(self) -> None:
        """The API reads again."""

    def connection_lost(self, reason: str) -> None:
        """The connection is gone."""


def _lenient(data: BytesLike) -> Any:
    """Parse JSON that `orjson` refuses for half a surrogate pair, which a cut emoji leaves; None: no JSON."""
    try:
        return _whole(json.loads(bytes(data).decode("utf-8", "replace")))
    except (ValueError, RecursionError):
        return None


def _whole(value: Any) -> Any:
    """The value with U+FFFD in place of each lone surrogate, which nothing else can encode."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_whole(each) for each in value]
    if isinstance(value, dict):
        return {_whole(name): _whole(each) for name, each in value.items()}
    return value


class RealtimeConnection:
    """One connection; `Owner` of its WebSocket."""

    def __init__(self, owner: RealtimeOwner) -> None:
        self._owner: RealtimeOwner | None = owner
        self._connection: WebSocket | None = None

    @property
    def write_paused(self) -> bool:
        """Whether the API does not read what is sent."""
        return self._connection is not None and self._connection.write_paused

    @property
    def answered_seconds(self) -> float:
        """All that was sent before this time has been read by the API."""
        return float("-inf") if self._connection is None else self._connection.answered_seconds

    async def open(self, url: str, headers: Mapping[str, str], api_key: str, *, proxies: Proxies = DIRECT) -> None:
        """Connect.

        Args:
            url: `ws(s)://...`, with its query.
            headers: of the handshake; they hold the key.
            api_key: the same key, which the service may quote.
            proxies: on the way there.

        Raises:
            UpstreamError: it did not work; the message names the cause and never the key.
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
        """Read nothing, not even what has come already, until `resume`."""
        if self._connection is not None:
            self._connection.suspend()

    def resume(self) -> None:
        """Go on after `suspend`."""
        if self._connection is not None:
            self._connection.resume()

    def close(self) -> None:
        """Close the connection; nothing more is reported of it."""
        self._owner = None
        if self._connection is not None:
            self._connection.close(1000)

    def abort(self) -> None:
        """Cut the connection off, without a closing handshake; nothing more is reported of it."""
        self._owner = None
        if self._connection is not None:
            self._connection.abort()

    async def wait_closed(self) -> None:
        """Wait until it is gone."""
        if self._connection is not None:
            await self._connection.wait_closed()

    # Owner of the WebSocket

    def opened(self, connection: WebSocket) -> None:
        """`open` goes on with it."""
        self._connection = connection

    def received(self, data: BytesLike, text: bool) -> None:
        """One event."""
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
        """Each event was complete in itself."""

    def violated(self, code: int, reason: str) -> int:
        """Nothing to add."""
        return code

    def writable(self) -> None:
        """The API reads again."""
        if self._owner is not None:
            self._owner.upstream_writable()

    def closed(self, code: int, reason: str) -> None:
        """Report the loss, unless we closed."""
        owner, self._owner = self._owner, None
        if owner is not None:
            cause = f"closed with code {code}" if code != 1006 else "it broke off"
            owner.connection_lost(f"{cause}: {errors.redact(reason)}" if reason else cause)

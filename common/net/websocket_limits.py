"""The bounds of a WebSocket connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one connection.

    Attributes:
        max_message_bytes: a longer message fails the connection (1009, unless the owner chooses another code).
        open_timeout_seconds: TCP connect (clients), TLS and opening handshake together.
        ping_interval_seconds: time between two pings; None: no pings are sent.
        silence_timeout_seconds: the peer is lost after this time without a byte; None: never. Each ping checks
            this bound, so it should be a multiple of the ping interval.
        stranger_bytes: bytes that a peer may send after the opening handshake before the owner calls `known`. The
            request's head has the same bound. None: no such bound.
        max_write_buffer_bytes: the connection is aborted when its peer leaves more than this unread. A safety
            net; owners must stop at `write_paused` (the transport's high-water mark is 64 KiB).
        close_timeout_seconds: the connection is aborted when a close frame is not answered within this time.
        linger_seconds: a peer that broke the protocol can read the reason for this time.
    """

    max_message_bytes: int = 1024 * 1024
    open_timeout_seconds: float = 10.0
    ping_interval_seconds: float | None = 20.0
    silence_timeout_seconds: float | None = 60.0
    stranger_bytes: int | None = None
    max_write_buffer_bytes: int = 8 * 1024 * 1024
    close_timeout_seconds: float = 5.0
    linger_seconds: float = 1.0


DEFAULT_LIMITS: Final = Limits()

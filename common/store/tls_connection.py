"""Connections to Redis with TLS that share one context.

A context reads the system's CAs, which takes 70 ms and more. redis-py makes one for each connection, and stops the
event loop, and so the audio of all calls, each time.
"""

from __future__ import annotations

import contextlib
from typing import Any

from redis.asyncio.connection import RedisSSLContext, SSLConnection


class SharedTls:
    """The context of connections with the same options of TLS."""

    def __init__(self, options: dict[str, Any]) -> None:
        """Read the certificates; a fault is told by each connection.

        Args:
            options: of a connection; only those of TLS (`ssl_...`) count.
        """
        of_tls = {name: value for name, value in options.items() if name.startswith("ssl_")}
        self.context: RedisSSLContext = SSLConnection(**of_tls).ssl_context
        with contextlib.suppress(OSError, ValueError):
            self.context.get()


class TlsConnection(SSLConnection):
    """A connection with TLS."""

    def __init__(self, *, tls: SharedTls, **options: Any) -> None:
        """Make a connection.

        Args:
            tls: the context.
            options: of redis-py.
        """
        super().__init__(**options)
        self.ssl_context = tls.context

"""How a process connects to Redis: to one server, or to the primary that sentinels name."""

from __future__ import annotations

from typing import Any, Final

from redis.asyncio import ConnectionPool, SSLConnection

from common.store.redis_account import Account
from common.store.sentinels import PrimaryConnection, PrimaryPool, PrimaryTlsConnection, Sentinels
from common.store.tls_connection import SharedTls, TlsConnection

_SHARE_OF_QUESTION: Final = 0.5
"""Share of a command's time that the question for the primary may take; connecting to it has the rest."""


def redis_pool(account: Account, *, timeout_seconds: float) -> ConnectionPool:
    """Return a pool of connections, which connect at their first command.

    Args:
        account: user and password, with the address.
        timeout_seconds: maximum time of connecting to a server.
    """
    options = {
        **account.address,
        "credential_provider": account,
        # The deadline around each command (`BoundedRedis.run`) covers reads and writes; redis-py's own would start
        # a task per command.
        "socket_timeout": None,
        "socket_connect_timeout": timeout_seconds,
        "decode_responses": True,
        # An invalid byte then spoils its own record and not the whole reply.
        "encoding_errors": "replace",
        "protocol": 2,
    }
    tls: dict[str, Any] = {}
    if options.get("connection_class") is SSLConnection:
        tls = {"connection_class": TlsConnection, "tls": SharedTls(options)}
    if account.sentinels is None:
        return ConnectionPool(**options | tls)
    of_sentinels = tls | {name: value for name, value in options.items() if name.startswith("ssl_")}
    sentinels = Sentinels(
        account.sentinels.sentinels,
        account.sentinels.service,
        ask_seconds=timeout_seconds * _SHARE_OF_QUESTION,
        credential_provider=account.of_sentinels,
        socket_timeout=None,
        socket_connect_timeout=timeout_seconds,
        protocol=2,
        **of_sentinels,
    )
    connection_class = PrimaryTlsConnection if tls else PrimaryConnection
    return PrimaryPool(sentinels, **options | tls | {"connection_class": connection_class})


def server_of(pool: ConnectionPool) -> str:
    """Return the address of a pool's server, or of its sentinels, without secrets."""
    if isinstance(pool, PrimaryPool):
        return f"primary {pool.service_name!r} of sentinels {pool.sentinels.name}"
    options = pool.connection_kwargs
    return options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"

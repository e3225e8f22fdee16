"""One-time tickets: a browser cannot send ADMIN_TOKEN with a WebSocket, and no token belongs into an address.

A ticket is asked for under the access rule of the calls API. It is valid once, for a few seconds, at any
dispatcher of the cluster. Redis knows its hash alone.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from typing import Final

from common.store.registry import Registry
from dispatcher.api.commands import CommandError
from dispatcher.call.caller.token_bucket import TokenBucket

LIFETIME_SECONDS: Final = 30
"""Time for which a ticket is valid: a browser opens its connection at once."""

TICKETS_PER_SECOND: Final = 0.5
TICKETS_AT_ONCE: Final = 10.0
"""Rate and burst of the tickets of one dispatcher, which bound the tickets that are valid together."""

_BYTES: Final = 24


class Tickets:
    """The tickets that one dispatcher issues, and those of all dispatchers that it redeems."""

    def __init__(
        self,
        registry: Registry,
        *,
        lifetime_seconds: int = LIFETIME_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin without tickets.

        Args:
            registry: Redis.
            lifetime_seconds: time for which a ticket is valid.
            clock: returns monotonic seconds.
        """
        self.lifetime_seconds = lifetime_seconds
        self._registry = registry
        self._clock = clock
        self._bucket = TokenBucket(TICKETS_PER_SECOND, TICKETS_AT_ONCE, clock())

    async def issue(self) -> str:
        """Return a new ticket.

        Raises:
            CommandError: too many tickets were issued.
            RegistryUnavailable: Redis is away.
        """
        if not self._bucket.take(1, self._clock()):
            raise CommandError(429, f"over {TICKETS_AT_ONCE:g} calls in a row: try again in some seconds")
        ticket = secrets.token_urlsafe(_BYTES)
        await self._registry.claim(_name(ticket), seconds=self.lifetime_seconds)
        return ticket

    async def redeem(self, ticket: str) -> bool:
        """Use a ticket; return False if it is unknown, too old or used.

        Raises:
            RegistryUnavailable: Redis is away.
        """
        return await self._registry.redeem(_name(ticket))


def _name(ticket: str) -> str:
    return f"ticket:{hashlib.sha256(ticket.encode(errors='replace')).hexdigest()}"

"""Which calls that cannot go on may be transferred: so many a second, and no caller over and over.

The extension may lead back to this service. A caller who came back would be transferred again, and again.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable

from common.errors import RegistryUnavailable
from common.store.registry import Registry
from dispatcher.call.token_bucket import TokenBucket

# Of one dispatcher process, and so many at once: each is work for Asterisk, which has its own calls to handle.
TRANSFERS_PER_SECOND = 2.0
TRANSFERS_AT_ONCE = 10.0
# A caller who was transferred is not transferred again within this time.
AGAIN_SECONDS = 300
# Callers that are remembered here, for when Redis is away: with the rate above, those of `AGAIN_SECONDS` and more.
MAX_CALLERS = 1000


class Transfers:
    """The transfers of one dispatcher process."""

    def __init__(self, registry: Registry, secret: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        """Build it.

        Args:
            registry: Redis, by which all dispatchers know whom one of them has transferred.
            secret: the same for all dispatchers; numbers are kept as an HMAC under it.
            clock: in seconds.
        """
        self._registry = registry
        self._secret = secret.encode()
        self._clock = clock
        self._bucket = TokenBucket(TRANSFERS_PER_SECOND, TRANSFERS_AT_ONCE, clock())
        self._callers: dict[str, float] = {}

    async def refusal(self, number: str) -> str | None:
        """Take the right to one transfer; return why there is none.

        Args:
            number: the caller's, as AVR Core gave it; empty: only the rate counts.
        """
        if not self._bucket.take(1, self._clock()):
            return f"over {TRANSFERS_PER_SECOND:g} transfers a second"
        if number and not await self._is_first(number):
            self._bucket.give_back(1)
            return f"this caller was transferred within the last {AGAIN_SECONDS} s"
        return None

    async def _is_first(self, number: str) -> bool:
        caller = hmac.new(self._secret, f"avr-sts transfer {number}".encode(), hashlib.sha256).hexdigest()[:32]
        now_seconds = self._clock()
        known = caller in self._callers and now_seconds - self._callers[caller] < AGAIN_SECONDS
        if known:
            return False
        # Before Redis is asked: the same caller may be asked about again meanwhile.
        self._callers.pop(caller, None)
        self._callers[caller] = now_seconds
        if len(self._callers) > MAX_CALLERS:
            del self._callers[next(iter(self._callers))]
        try:
            return await self._registry.claim(caller, seconds=AGAIN_SECONDS)
        except RegistryUnavailable:
            return True

"""Limit the transfers of calls that cannot continue: a rate per process, and a pause per caller.

The extension may lead back to this service. Without the pause, such a caller would be transferred again and again.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable

from common.errors import RegistryUnavailable
from common.store.registry import Registry
from dispatcher.call.caller.token_bucket import TokenBucket

# The rate and the burst of one dispatcher process, because each transfer is work for Asterisk.
TRANSFERS_PER_SECOND = 2.0
TRANSFERS_AT_ONCE = 10.0
# Minimum time between two transfers of the same caller.
AGAIN_SECONDS = 300
# Maximum number of callers kept here, for times without Redis. At the rate above they cover `AGAIN_SECONDS`.
MAX_CALLERS = 1000


class Transfers:
    """The transfer limits of one dispatcher process."""

    def __init__(self, registry: Registry, secret: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without recent transfers.

        Args:
            registry: stores the transferred callers in Redis for all dispatchers.
            secret: the key of the HMAC under which numbers are stored; the same for all dispatchers.
            clock: returns monotonic seconds.
        """
        self._registry = registry
        self._secret = secret.encode()
        self._clock = clock
        self._bucket = TokenBucket(TRANSFERS_PER_SECOND, TRANSFERS_AT_ONCE, clock())
        self._callers: dict[str, float] = {}

    async def refusal(self, number: str) -> str | None:
        """Count one transfer and return None, or return why the transfer is refused.

        Args:
            number: the caller's number from AVR Core; if empty, only the rate counts.
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
        # Stored before Redis answers, because another request for the same caller may come meanwhile.
        self._callers.pop(caller, None)
        self._callers[caller] = now_seconds
        if len(self._callers) > MAX_CALLERS:
            del self._callers[next(iter(self._callers))]
        try:
            return await self._registry.claim(caller, seconds=AGAIN_SECONDS)
        except RegistryUnavailable:
            return True

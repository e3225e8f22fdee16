"""Tokens of peers: compared in constant time, and replaced while peers still use the former token."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from typing import Final

from pydantic import SecretStr

FORMER_SECONDS: Final = 600.0
"""Time for which a replaced token stays valid, so that all peers can get the new one."""

MAX_FORMER: Final = 3
"""Maximum number of former tokens that are valid; the oldest one is dropped first."""

_SCHEME = "bearer "


class Token:
    """A token, and the former tokens that are still valid.

    Args:
        value: the token.
        clock: in seconds, monotonic.
    """

    def __init__(self, value: SecretStr, clock: Callable[[], float] = time.monotonic) -> None:
        self._value = value
        self._clock = clock
        # Each with the time at which it expires, the newest first.
        self._former: list[tuple[SecretStr, float]] = []

    @property
    def value(self) -> SecretStr:
        """The token itself."""
        return self._value

    def replace(self, value: SecretStr) -> None:
        """Replace the token; the former one stays valid for `FORMER_SECONDS`."""
        if value == self._value:
            return
        former = [(self._value, self._clock() + FORMER_SECONDS), *self._former]
        self._former = [each for each in former if each[0] != value][:MAX_FORMER]
        self._value = value

    def valid(self) -> tuple[SecretStr, ...]:
        """Return all valid tokens, the current one first."""
        now_seconds = self._clock()
        self._former = [each for each in self._former if each[1] > now_seconds]
        return (self._value, *(value for value, _ in self._former))

    def accepts(self, shown: str | None) -> bool:
        """Return whether `shown` is the token, or a former one that is still valid."""
        return any(is_token(shown, value) for value in self.valid())


def is_token(shown: str | None, token: SecretStr) -> bool:
    """Return whether `shown` is the token.

    Both texts are hashed first, because `hmac.compare_digest` takes longer for longer texts. The time would
    otherwise reveal the token's length.
    """
    if shown is None:
        return False
    digests = (hashlib.sha256(text.encode(errors="replace")) for text in (shown, token.get_secret_value()))
    return hmac.compare_digest(*(digest.digest() for digest in digests))


def bearer(authorization: str | None) -> str | None:
    """Return the token of an `Authorization: Bearer ...` header; None if the header has no token."""
    if authorization is None or authorization[: len(_SCHEME)].lower() != _SCHEME:
        return None
    return authorization[len(_SCHEME) :].strip()

"""Tokens that peers show: compared in a time that tells nothing of them."""

from __future__ import annotations

import hashlib
import hmac

from pydantic import SecretStr

_SCHEME = "bearer "


def is_token(shown: str | None, token: SecretStr) -> bool:
    """Whether what was shown is the token.

    Hashed first: `hmac.compare_digest` takes longer for longer texts, and so would tell the token's length.
    """
    if shown is None:
        return False
    digests = (hashlib.sha256(text.encode(errors="replace")) for text in (shown, token.get_secret_value()))
    return hmac.compare_digest(*(digest.digest() for digest in digests))


def bearer(authorization: str | None) -> str | None:
    """The token of an `Authorization: Bearer ...` header; None where it has none."""
    if authorization is None or authorization[: len(_SCHEME)].lower() != _SCHEME:
        return None
    return authorization[len(_SCHEME) :].strip()

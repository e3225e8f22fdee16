"""Safety identifier of a call: tells OpenAI apart the callers of one account, without their numbers.

OpenAI takes it in the header `OpenAI-Safety-Identifier` of a Realtime connection
(https://developers.openai.com/api/docs/guides/realtime-websocket). It may have 128 characters (openai 3.57,
`types/responses/response_create_params.py`, `safety_identifier`; older releases: 64). An HMAC-SHA256 in
hexadecimal has 64. The hash is keyed, because a plain one could be reversed by hashing every telephone number.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Final

from pydantic import SecretStr

HEADER: Final = "OpenAI-Safety-Identifier"
NUMBER: Final = "from"
"""The metadata that names the caller."""

# `"Ann" <sip:+39055123@host>`: the part in angle brackets, then the user part of the address.
_ADDRESS: Final = re.compile(r"<([^<>]*)>")
_SCHEME: Final = re.compile(r"^(?:sips?|tel):", re.IGNORECASE)
_NOT_A_DIGIT: Final = re.compile(r"[^0-9]")


def of_call(secret: SecretStr | None, metadata: Mapping[str, str]) -> str | None:
    """Return the identifier of the caller; None without a secret or without a number (`anonymous`)."""
    number = normalised(metadata.get(NUMBER, ""))
    if secret is None or not number:
        return None
    return hmac.new(secret.get_secret_value().encode(), number.encode(), hashlib.sha256).hexdigest()


def normalised(number: str) -> str:
    """Return the digits of a number, with its leading `+`: the same for all ways to write it."""
    found = _ADDRESS.search(number)
    user = _SCHEME.sub("", (found[1] if found else number).strip()).split("@")[0].split(";")[0].strip()
    digits = _NOT_A_DIGIT.sub("", user)
    return f"+{digits}" if digits and user.startswith("+") else digits

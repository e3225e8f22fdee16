"""Parsers of the settings of call records."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from pydantic import SecretStr

HOW_TO_MAKE_A_SECRET: Final = 'echo "whsec_$(openssl rand -base64 32)"'  # noqa: S105 - a command
"""A command that writes a secret of the webhook."""

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - what a secret begins with

MIN_SECRET_BYTES: Final = 16

_FUNCTION: Final = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def webhook_secret(value: object) -> object:
    """Accept a secret of the webhook; as an argument also a `SecretStr`."""
    if value is None:
        return None
    written = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(written, str) or not re.fullmatch(r"[!-~]*", written):
        raise ValueError(f"has spaces, line breaks or characters beyond ASCII: {HOW_TO_MAKE_A_SECRET} makes one")
    try:
        key = secret_key(written)
    except ValueError:
        raise ValueError(
            f"begins with whsec_, and goes on with other text than base64: {HOW_TO_MAKE_A_SECRET} makes one"
        ) from None
    if len(key) < MIN_SECRET_BYTES:
        raise ValueError(
            f"has less than {MIN_SECRET_BYTES} bytes, and may be guessed: {HOW_TO_MAKE_A_SECRET} makes one"
        )
    return value


def secret_key(written: str) -> bytes:
    """Return the key of HMAC that a secret stands for: the decoded base64 after `whsec_`, or the text itself.

    Raises:
        ValueError: the text after `whsec_` is not base64.
    """
    if not written.startswith(SECRET_PREFIX):
        return written.encode()
    try:
        encoded = written.removeprefix(SECRET_PREFIX)
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None


def function_name(value: object) -> object:
    """Accept the name of a function of a module."""
    if value is None:
        return None
    if not isinstance(value, str) or not _FUNCTION.fullmatch(value):
        raise ValueError("must be module:function, such as redact:without_names")
    return value

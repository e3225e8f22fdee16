"""What must never be shown: names of fields that hold secrets, and secrets inside text."""

from __future__ import annotations

import re

REDACTED = "***"

_SECRET_NAME = re.compile(r"(?:^|[_-])(?:api[_-]?key|authorization|cookie|password|secret|token)$", re.IGNORECASE)

_SECRET_TEXT = re.compile(
    r"""
    \bsk-[\w*-]{4,}                 # an OpenAI key, also as OpenAI's own errors shorten it (sk-ab***yz)
    | (?<=\bBearer\ )[^\s"',]+      # Authorization: Bearer ...
    | (?<=://)[^/@\s]+(?=@)         # scheme://user:password@host
    | ([?&][\w-]*(?i:key|token|secret|password)=)[^&\s"']+  # ?token= of a URL
    """,
    re.VERBOSE,
)


def is_secret_name(name: str) -> bool:
    """Whether a field of this name holds a secret (`api_key`, `X-Token`; not `max_tokens`)."""
    return _SECRET_NAME.search(name) is not None


def redact(text: str) -> str:
    """Returns `text` with everything that looks like a secret replaced."""
    return _SECRET_TEXT.sub(lambda found: (found[1] or "") + REDACTED, text)

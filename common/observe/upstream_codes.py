"""Codes of the Realtime API's errors that are known in advance, for the label `code` of metrics.

There are other codes, which the API names.
"""

from __future__ import annotations

from typing import Final

ACCOUNT_CODES: Final = (
    "invalid_api_key",
    "insufficient_quota",
    "billing_hard_limit_reached",
    "account_deactivated",
    "model_not_found",
    "invalid_model",
    "unsupported_country_region_territory",
)
"""Of errors after which no session can do better, in the API's words."""

OPERATOR_CODES: Final = (*ACCOUNT_CODES, "http_401", "http_403", "tls")
"""Of errors that every call meets until somebody mends the account, the network or the settings."""

PASSING_CODES: Final = (
    "connect",
    "connection_lost",
    "dns",
    "no_response",
    "rate_limit_exceeded",
    "server_error",
    "session_expired",
    "timeout",
)
"""Of errors that come and go by themselves."""

"""What the Realtime API's errors mean for a call, and what of them may be shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Self

import orjson

from common import redaction
from common.errors import UpstreamError

_MAX_MESSAGE_CHARS = 300
# OpenAI quotes a refused key, partly masked, in its own message.
_KEY = re.compile(r"\b(?:sk|sess|ek)[-_][\w*.-]+|[\w.-]*\*{3,}[\w*.-]*")

# Errors after which no session can do better, with what the operator is to do.
_FATAL = {
    "invalid_api_key": "OpenAI refused the API key: check OPENAI_API_KEY",
    "insufficient_quota": "the OpenAI account has no quota left: check its plan and billing",
    "billing_hard_limit_reached": "the OpenAI account has reached its billing limit",
    "account_deactivated": "the OpenAI account is deactivated",
    "model_not_found": "the model does not exist, or this account has no access to it: check OPENAI_MODEL",
    "invalid_model": "the model is not one for the Realtime API: check OPENAI_MODEL",
}
# The session is over, and another one may be opened.
_SESSION_OVER = {"session_expired": "the Realtime session reached its time limit"}
OPERATOR_CODES: Final = (*_FATAL, "http_401", "http_403", "tls")
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
"""Of errors that come and go by themselves; there are others, which are the API's to name."""

_RESPONSE_ACTIVE = "conversation_already_has_active_response"
_CODE = re.compile(r"[a-z0-9_.-]{1,64}")


class Severity(Enum):
    """What an `error` event means for the call."""

    GOES_ON = "goes on"
    RESPONSE_ACTIVE = "response active"
    SESSION_OVER = "session over"
    FATAL = "fatal"


@dataclass(frozen=True, slots=True)
class ErrorEvent:
    """An `error` event, or the error of a failed response.

    Attributes:
        code: for the metric's label: one of OpenAI's codes or types.
        message: for people: without keys, cut to 300 characters.
        event_id: the event of ours that it is about, if any.
    """

    severity: Severity
    code: str
    message: str
    event_id: str | None

    @classmethod
    def from_event(cls, error: Mapping[str, Any]) -> Self:
        """From the `error` object of an `error` event."""
        code = str(error.get("code") or error.get("type") or "unknown").lower()
        code = code if _CODE.fullmatch(code) else "unknown"
        message = _FATAL.get(code) or _SESSION_OVER.get(code) or redact(str(error.get("message") or code))
        severity = Severity.GOES_ON
        if code in _FATAL:
            severity = Severity.FATAL
        elif code in _SESSION_OVER:
            severity = Severity.SESSION_OVER
        elif code == _RESPONSE_ACTIVE:
            severity = Severity.RESPONSE_ACTIVE
        return cls(severity, code, message, error.get("event_id"))

    @classmethod
    def from_response(cls, error: Mapping[str, Any]) -> Self:
        """From `response.status_details.error`, which has a code and a type and rarely a message."""
        return cls.from_event({"message": "a response failed", **error})


def redact(text: str) -> str:
    """Text of the API's without anything that looks like a key, and not too long."""
    return redaction.redact(_KEY.sub(redaction.REDACTED, text))[:_MAX_MESSAGE_CHARS]


def from_handshake(status: int, body: bytes) -> UpstreamError:
    """The error for a refused WebSocket handshake."""
    code = f"http_{status}"
    message = ""
    try:
        error = orjson.loads(body).get("error") or {}
        message = str(error.get("message") or "")
        code = str(error.get("code") or code).lower()
    except (orjson.JSONDecodeError, AttributeError):
        pass
    code = code if _CODE.fullmatch(code) else f"http_{status}"
    if code in _FATAL:
        return UpstreamError(f"{_FATAL[code]} (HTTP {status})", code=code, retryable=False)
    detail = f": {redact(message)}" if message else ""
    if status in (401, 403):
        refused = f"OpenAI refused the API key (HTTP {status}){detail}"
        return UpstreamError(
            f"{refused}: check OPENAI_API_KEY and the project's access to the model", code=code, retryable=False
        )
    # Too many requests, and what a server says of itself, pass; other refusals are about what we ask for.
    retryable = status in (408, 429) or status >= 500
    return UpstreamError(f"the Realtime API answered HTTP {status}{detail}", code=code, retryable=retryable)

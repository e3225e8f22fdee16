"""Classify the Realtime API's errors by their meaning for a call, and redact their texts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Self

from common.errors import UpstreamError
from common.net import json_depth
from common.net.retry_after import MAX_RETRY_AFTER_SECONDS, seconds_of
from common.observe import redaction
from common.observe.upstream_codes import ACCOUNT_CODES

_MAX_MESSAGE_CHARS = 300
# OpenAI's message for a refused key quotes the key, partly masked (see the texts in
# tests/worker/realtime/test_errors.py).
_KEY = re.compile(r"\b(?:sk|sess|ek)[-_][\w*.-]+|[\w.-]*\*{3,}[\w*.-]*")

# Advice for the operator, for each of ACCOUNT_CODES (common/observe/upstream_codes.py).
_ADVICE = {
    "invalid_api_key": "OpenAI refused the API key: check OPENAI_API_KEY",
    "insufficient_quota": "the OpenAI account has no quota left: check its plan and billing",
    "billing_hard_limit_reached": "the OpenAI account has reached its billing limit",
    "account_deactivated": "the OpenAI account is deactivated",
    "model_not_found": "the model does not exist, or this account has no access to it: check OPENAI_MODEL",
    "invalid_model": "the model is not one for the Realtime API: check OPENAI_MODEL",
    "unsupported_country_region_territory": "OpenAI does not serve the country of this server's address",
}
# Errors that end the session; another session may be opened.
_SESSION_OVER = {"session_expired": "the Realtime session reached its time limit"}

_NUMBER = r"\d{1,9}(?:\.\d{1,9})?"
_UNIT = r"[uµ\u03bc]s|ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hours?|d|days?"
_WAIT = re.compile(
    rf"\b(?:try again in|retry after|retry in)\s+((?:{_NUMBER}\s?(?:{_UNIT})(?![a-z])\s?)+)", re.IGNORECASE
)
_WAIT_PART = re.compile(rf"({_NUMBER})\s?({_UNIT})(?![a-z])", re.IGNORECASE)
_UNIT_SECONDS = {
    "us": 1e-6,
    "µs": 1e-6,
    "\u03bcs": 1e-6,
    "ms": 1e-3,
    "millisecond": 1e-3,
    "milliseconds": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}
_MARKUP = re.compile(r"<(style|script)\b.*?</\1\s*>|<[^<>]*>", re.IGNORECASE | re.DOTALL)

# HTTP statuses of servers without a WebSocket at this address: method not allowed, upgrade required.
_NO_WEBSOCKET = (405, 426)
_CAUSES_OF_403 = (
    "OPENAI_API_KEY, the project's access to OPENAI_MODEL, the country of this server's address,"
    " and any proxy or firewall on the way"
)

_RESPONSE_ACTIVE = "conversation_already_has_active_response"
NO_RESPONSE_ACTIVE: Final = "response_cancel_not_active"
EMPTY_COMMIT: Final = "input_audio_buffer_commit_empty"
CONTEXT_LENGTH: Final = "context_length_exceeded"
# Errors of requests other than `response.create` and `session.update`. Either OpenAI's code names the request
# (`item_truncate_invalid_item_id`, `input_audio_buffer_commit_empty`), or the wrong field belongs to such a
# request.
_OTHER_REQUESTS = re.compile(r"item_|input_audio_buffer|invalid_tool_call_id$|unsupported_content_type$")
_OTHER_PARAMS = re.compile(r"(?:item|previous_item|item_id|content_index|audio_end_ms|audio|response_id)\b")
# Codes of errors that affect all calls while the outage lasts.
_OUTAGES = frozenset(
    {"server_error", "server_is_overloaded", "rate_limit_exceeded", "overloaded_error", "timeout"}
)
_CODE = re.compile(r"[a-z0-9_.-]{1,64}")


class Severity(Enum):
    """The meaning of an `error` event for the call."""

    GOES_ON = "goes on"
    RESPONSE_ACTIVE = "response active"
    SESSION_OVER = "session over"
    FATAL = "fatal"


@dataclass(frozen=True, slots=True)
class ErrorEvent:
    """An `error` event, or the error of a failed response.

    Attributes:
        code: one of OpenAI's codes or types, for the metric's label.
        message: the text for people, without keys, truncated to 300 characters.
        event_id: the id of the sent event that the error answers, if any.
        kind: OpenAI's type, such as `server_error`.
        param: the wrong field, if any, such as `session.audio.input.noise_reduction`.
        retry_after_seconds: the pause that the message asks for; None if there is none.
    """

    severity: Severity
    code: str
    message: str
    event_id: str | None
    kind: str = ""
    param: str = ""
    retry_after_seconds: float | None = None

    @property
    def is_outage(self) -> bool:
        """Whether the error currently affects other calls, too."""
        return self.kind == "server_error" or self.code in _OUTAGES

    @property
    def is_about_session(self) -> bool:
        """Whether the error answers `session.update`, because it names the voice or a field of the session."""
        return self.param.split(".")[0].split("[")[0] == "session" or self.code == "cannot_update_voice"

    @property
    def is_about_another_request(self) -> bool:
        """Whether the error answers a request other than `response.create` and `session.update`."""
        named = _OTHER_REQUESTS.match(self.code) or _OTHER_PARAMS.match(self.param)
        return named is not None or self.code == NO_RESPONSE_ACTIVE

    @classmethod
    def from_event(cls, error: Mapping[str, Any]) -> Self:
        """Build an ErrorEvent from the `error` object of an `error` event."""
        code = str(error.get("code") or error.get("type") or "unknown").lower()
        code = code if _CODE.fullmatch(code) and not redaction.holds_known(code) else "unknown"
        message = _ADVICE.get(code) or _SESSION_OVER.get(code) or redact(str(error.get("message") or code))
        severity = Severity.GOES_ON
        if code in ACCOUNT_CODES:
            severity = Severity.FATAL
        elif code in _SESSION_OVER:
            severity = Severity.SESSION_OVER
        elif code == _RESPONSE_ACTIVE:
            severity = Severity.RESPONSE_ACTIVE
        event_id = error.get("event_id")
        return cls(
            severity,
            code,
            message,
            event_id if isinstance(event_id, str) else None,
            kind=str(error.get("type") or ""),
            param=str(error.get("param") or ""),
            retry_after_seconds=retry_after_seconds(str(error.get("message") or "")),
        )

    @classmethod
    def from_response(cls, error: Mapping[str, Any]) -> Self:
        """Build an ErrorEvent from `response.status_details.error`, which rarely has a message."""
        return cls.from_event({"message": "a response failed", **error})


def redact(text: str) -> str:
    """Return a truncated text of the API without parts that look like a key."""
    return redaction.redact(_KEY.sub(redaction.REDACTED, text))[:_MAX_MESSAGE_CHARS]


def retry_after_seconds(message: str) -> float | None:
    """Read the wait that a message asks for, at most `MAX_RETRY_AFTER_SECONDS`; None if there is none.

    OpenAI writes "Please try again in 1.2s", "250ms" or "6m0s", with the units of Go's durations. Azure writes
    "Please retry after 3 seconds" (https://github.com/microsoft/action-python/issues/12, 2023-05-03).
    """
    found = _WAIT.search(message)
    if found is None:
        return None
    parts = _WAIT_PART.findall(found[1])
    seconds = sum(float(number) * _UNIT_SECONDS[_unit(unit)] for number, unit in parts)
    return min(seconds, MAX_RETRY_AFTER_SECONDS)


def from_handshake(status: int, body: bytes, retry_after: str | None = None) -> UpstreamError:
    """Return the error for a refused WebSocket handshake.

    Args:
        status: the HTTP status, any but 101.
        body: the beginning of the response's body.
        retry_after: the `Retry-After` header: seconds or an HTTP date (RFC 9110, section 10.2.3).
    """
    code, message = _read_refusal(body)
    code = code if _CODE.fullmatch(code) and not redaction.holds_known(code) else f"http_{status}"
    waits = [wait for wait in (seconds_of(retry_after), retry_after_seconds(message)) if wait is not None]
    text, retryable = _describe(status, code, f": {redact(message)}" if message else "")
    return UpstreamError(text, code=code, retryable=retryable, retry_after_seconds=max(waits, default=None))


def _describe(status: int, code: str, detail: str) -> tuple[str, bool]:
    """Return the text for the operator, and whether another attempt can help."""
    if code in _ADVICE:
        # Only for HTTP 403 a code has several causes, so its own message is shown.
        return f"{_ADVICE[code]} (HTTP {status}){detail if status == 403 else ''}", False
    if status == 401:
        refused = f"the Realtime API refused the API key (HTTP 401){detail}"
        return f"{refused}: check OPENAI_API_KEY and the project's access to the model", False
    answered = f"the Realtime API answered HTTP {status}"
    if status == 403:
        # OpenAI answered 403 for accounts without access to the Realtime API
        # (https://github.com/openai/openai-realtime-api-beta/issues/2, 2024-10-02). Proxies also answer 403.
        return f"{answered}{detail}: check {_CAUSES_OF_403}", False
    if status < 400 or status in _NO_WEBSOCKET or (status == 404 and code == "http_404"):
        return f"{answered} and opened no WebSocket{detail}: check OPENAI_BASE_URL", False
    # HTTP 408, 429 and 5xx are temporary. Other statuses mean that the request is wrong.
    return f"{answered}{detail}", status in (408, 429) or status >= 500


def _read_refusal(body: bytes) -> tuple[str, str]:
    """Return the code and the message in a refusal's body, each empty if missing.

    OpenAI answers `{"error": {"code": ..., "message": ...}}`. Gateways answer other JSON, text or an HTML page.
    """
    try:
        answer = json_depth.read(body)
    except ValueError:
        return "", _plain(body.decode(errors="ignore"))
    if not isinstance(answer, dict):
        return "", ""
    error = answer.get("error")
    if isinstance(error, dict):
        return str(error.get("code") or "").lower(), _plain(str(error.get("message") or ""))
    said = next((text for text in (error, answer.get("message"), answer.get("detail")) if text), "")
    return "", _plain(said) if isinstance(said, str) else ""


def _plain(text: str) -> str:
    """Return the words of a text or an HTML page on one line, without control characters."""
    text = _MARKUP.sub(" ", text)
    return " ".join("".join(each for each in text if each.isprintable() or each.isspace()).split())


def _unit(written: str) -> str:
    """Return the short form of a unit: `seconds` is `s`, `min` is `m`."""
    unit = written.lower()
    return unit if unit in _UNIT_SECONDS else unit[0]

"""Ends of a response on command, other than a spoken reply, in the words of OpenAI's service."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Any, Final

SERVER_ERROR_MESSAGE: Final = "The server had an error while processing your request. Sorry about that!"

# The error's `type` and `message`, by code. The rate limit's text is from the platform's rate limits guide. Its
# type differs between reports, and no client should depend on it.
_KNOWN_ERRORS: Final[dict[str | None, tuple[str, str]]] = {
    "rate_limit_exceeded": (
        "tokens",
        "Rate limit reached for gpt-realtime in organization org-simulator on tokens per min (TPM): "
        "Limit 40000, Used 39810, Requested 2190. Please try again in 3s. "
        "Visit https://platform.openai.com/account/rate-limits to learn more.",
    ),
    "insufficient_quota": (
        "insufficient_quota",
        "You exceeded your current quota, please check your plan and billing details. For more information on "
        "this error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors.",
    ),
    "context_length_exceeded": (
        "invalid_request_error",
        "Your input exceeds the context window of this model. Please adjust your input and try again.",
    ),
}


_TRY_AGAIN: Final = re.compile(r"try again in ([\d.]+)s")


class Result(enum.StrEnum):
    """The kind of a response's end."""

    FAILED = "failed"
    INCOMPLETE = "incomplete"
    COMPLETED = "completed"
    LOST = "lost"
    """The response ends, and `response.done` is never sent."""
    HUNG = "hung"
    """The response stays active and sends nothing more, until it is cancelled."""


class Output(enum.StrEnum):
    """The output of a response that does not end well."""

    ITEM = "item"
    """A message with the audio sent so far, or the beginning of a function call."""
    TEXT = "text"
    """A message with text alone."""
    NONE = "none"
    """No item."""


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of one response, on command.

    Attributes:
        status: status of the response.
        after_ms: audio sent before the end; None: all of it.
        reason: reason of an incomplete response: `max_output_tokens` or `content_filter`.
        code: code of a failed response's error, or of the `error` event before a lost response; None: no code.
        message: message of the error; None: the API's text for the code.
        output: items of the response.
        announced: whether an `error` event announces a lost or hung response.
        commanded: whether the end is a fault; False if the response has reached its token limit.
    """

    status: str = Result.FAILED
    after_ms: int | None = 0
    reason: str = "content_filter"
    code: str | None = "server_error"
    message: str | None = None
    output: Output = Output.ITEM
    announced: bool = False
    commanded: bool = True

    def details(self) -> dict[str, Any] | None:
        """Return the response's `status_details`."""
        if self.status == Result.COMPLETED:
            return None
        if self.status == Result.INCOMPLETE:
            return {"type": "incomplete", "reason": self.reason}
        return {"type": "failed", "error": self.error()}

    @property
    def wait_seconds(self) -> float:
        """Return the time that the error asks the client to wait."""
        found = _TRY_AGAIN.search(self.error()["message"]) if self.status == Result.FAILED else None
        return float(found[1]) if found else 0.0

    def error(self) -> dict[str, Any]:
        """Return the error's `type`, `code` and `message`."""
        kind, message = _KNOWN_ERRORS.get(self.code, ("server_error", SERVER_ERROR_MESSAGE))
        return {"type": kind, "code": self.code, "message": self.message or message}

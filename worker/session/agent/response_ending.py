"""How a response, or a request for one, ended: the API's status, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from common.observe.metrics import RetryReason
from worker.realtime.errors import CONTEXT_LENGTH, ErrorEvent


@dataclass(frozen=True, slots=True)
class Ending:
    """How a response, or a request for one, ended.

    Attributes:
        status: the API's status: `completed`, `incomplete`, `failed` or `cancelled`.
        reason: label of the metric.
        detail: the API's code or reason, for people.
        error: the API's error; None: there is none.
    """

    status: str
    reason: RetryReason
    detail: str = ""
    error: ErrorEvent | None = None

    @classmethod
    def of_error(cls, error: ErrorEvent, reason: RetryReason = RetryReason.FAILED) -> Ending:
        """Return the ending for an error."""
        if error.code == CONTEXT_LENGTH:
            reason = RetryReason.CONTEXT_LENGTH
        elif error.code == "rate_limit_exceeded":
            reason = RetryReason.RATE_LIMITED
        return cls("failed", reason, error.code, error)


def ending_of(response: dict[str, Any]) -> Ending:
    """Return how a response ended, from the `response` of its `response.done`."""
    status = str(response.get("status") or "completed")
    details = response.get("status_details") or {}
    if status == "failed":
        return Ending.of_error(ErrorEvent.from_response(details.get("error") or {}))
    if status == "incomplete":
        return Ending(status, RetryReason.INCOMPLETE, str(details.get("reason") or "")[:64])
    reason = RetryReason.EMPTY if status == "completed" else RetryReason.FAILED
    return Ending(status, reason, str(details.get("reason") or "")[:64])

"""How a call ended, and why: labels of metrics, and parts of a call's record."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class CallOutcome(StrEnum):
    """How a call that ended is counted."""

    COMPLETED = "completed"
    REJECTED = "rejected"
    """No worker took the call, or it broke AVR's protocol before a worker had it."""
    FAILED = "failed"


class EndReason(StrEnum):
    """Why a call ended: in its record, on the link, and a label of metrics."""

    CALLER_HUNG_UP = "caller_hung_up"
    """AVR Core closed the connection properly."""
    CALLER_LOST = "caller_lost"
    """The caller's connection broke, and the caller did not come back in time."""
    CALLER_SILENT = "caller_silent"
    """Nobody spoke for SILENCE_HANGUP_SECONDS."""
    AGENT_HUNG_UP = "agent_hung_up"
    TRANSFERRED = "transferred"
    """The agent's transfer succeeded."""
    API_HUNG_UP = "api_hung_up"
    """The calls API ended the call."""
    TOO_LONG = "too_long"
    """The call reached MAX_CALL_SECONDS."""
    PROTOCOL = "protocol"
    """AVR Core broke its protocol: no `init`, a flood, no audio."""
    NO_CAPACITY = "no_capacity"
    NO_WORKER = "no_worker"
    """Workers refused the call, could not be reached, or did not answer."""
    UPSTREAM = "upstream"
    """There was no Realtime session: the API refused it, or could not be reached in time."""
    NO_ANSWER = "no_answer"
    """The model gave no answers any more."""
    STOPPED = "stopped"
    """The dispatcher ended, and could not wait for the call."""
    INTERNAL = "internal"
    """A fault of the service."""
    LOST = "lost"
    """Dispatcher and worker died, and the caller did not come back."""


OUTCOMES: Final[dict[EndReason, tuple[CallOutcome, ...]]] = {
    EndReason.CALLER_HUNG_UP: (CallOutcome.COMPLETED,),
    EndReason.CALLER_LOST: (CallOutcome.FAILED,),
    EndReason.CALLER_SILENT: (CallOutcome.COMPLETED,),
    EndReason.AGENT_HUNG_UP: (CallOutcome.COMPLETED,),
    EndReason.TRANSFERRED: (CallOutcome.COMPLETED,),
    EndReason.API_HUNG_UP: (CallOutcome.COMPLETED,),
    EndReason.TOO_LONG: (CallOutcome.COMPLETED,),
    # Failed: the call had had a worker.
    EndReason.PROTOCOL: (CallOutcome.REJECTED, CallOutcome.FAILED),
    EndReason.NO_CAPACITY: (CallOutcome.REJECTED, CallOutcome.FAILED),
    EndReason.NO_WORKER: (CallOutcome.FAILED,),
    EndReason.UPSTREAM: (CallOutcome.FAILED,),
    EndReason.NO_ANSWER: (CallOutcome.FAILED,),
    EndReason.STOPPED: (CallOutcome.FAILED,),
    EndReason.INTERNAL: (CallOutcome.FAILED,),
    EndReason.LOST: (CallOutcome.FAILED,),
}
"""The outcomes that calls with a reason can have."""


def end_reason(written: str, otherwise: EndReason) -> EndReason:
    """Return the reason with this name, of a worker; `otherwise` if it does not fit.

    A newer release may have added the reason. A reason that cannot have the outcome of `otherwise` does not fit.
    """
    try:
        reason = EndReason(written)
    except ValueError:
        return otherwise
    return reason if set(OUTCOMES[reason]) & set(OUTCOMES[otherwise]) else otherwise

"""How long a fault keeps a caller from being heard, seen from the Realtime API's side."""

from __future__ import annotations

import math

from tests.chaos.facts import CallFacts, Fault, FaultKind, Spans

# What takes a call's session, worker or connection from it; the others are not to be noticed at all.
RECOVERED = frozenset(
    {
        FaultKind.KILL_WORKER,
        FaultKind.STOP_WORKER,
        FaultKind.DRAIN_WORKER,
        FaultKind.CUT_LINK,
        FaultKind.BREAK_LINK,
        FaultKind.DROP_SESSION,
        FaultKind.STALL_SESSION,
        FaultKind.EXPIRE_SESSION,
        FaultKind.KILL_DISPATCHER,
        FaultKind.CUT_CALLER,
        FaultKind.KILL_WORKER_WITHOUT_REDIS,
        FaultKind.KILL_DISPATCHER_WITHOUT_REDIS,
        FaultKind.KILL_BOTH,
        FaultKind.HANG_DISPATCHER,
        FaultKind.DRAIN_IN_ROLLOVER,
    }
)

# Audio that comes so long after a fault was on its way, or the fault had not struck yet.
_STRUCK_SECONDS = 0.3
# A call that lasted so long behind a fault should have recovered from it.
_PATIENCE_SECONDS = 15.0


def recovery_seconds(call: CallFacts, fault: Fault) -> float | None:
    """From a fault to the caller's audio flowing into a session that may answer.

    Returns:
        0 if it never stopped, `inf` if it did not come back; None if that cannot be told: it was not heard at the
        time, or the call ended before.
    """
    at_seconds = fault.at_seconds
    spans = hearing(call)
    if not any(begin <= at_seconds for begin, _ in spans):
        return None
    if any(begin <= at_seconds and end > at_seconds + _STRUCK_SECONDS for begin, end in spans):
        return 0.0
    later = [begin for begin, _ in spans if begin > at_seconds]
    if later:
        return min(later) - at_seconds
    return math.inf if call.ended_seconds - at_seconds > _PATIENCE_SECONDS else None


def hearing(call: CallFacts) -> Spans:
    """When the caller's audio flowed into a session that might answer: in order, without overlaps."""
    spans = sorted(
        (max(begin, first), min(end, last))
        for session in call.sessions
        for begin, end in session.hearing
        for first, last in session.answering
        if max(begin, first) < min(end, last)
    )
    merged: list[tuple[float, float]] = []
    for begin, end in spans:
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((begin, end))
    return merged

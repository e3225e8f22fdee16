"""The time for which a fault keeps a caller from being heard, seen from the Realtime API."""

from __future__ import annotations

import math

from tests.chaos.facts import CallFacts, Fault, FaultKind, Spans

# Faults that take a call's session, worker or connection; a caller may not notice others at all.
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

# Audio within this time after a fault was on its way, or the fault had not struck yet.
_STRUCK_SECONDS = 0.3
# Time after a fault in which a call should have recovered.
_PATIENCE_SECONDS = 15.0


def recovery_seconds(call: CallFacts, fault: Fault) -> float | None:
    """Return the time from a fault to the caller's audio in a session that may answer.

    Returns:
        0 if the audio never stopped; `inf` if it did not return. None if this is unknown, because the caller was
        not heard at the time or the call ended before.
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
    """Return the spans in which audio flowed into a session that might answer: in order, without overlaps."""
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

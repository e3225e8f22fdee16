"""Words, tools and greetings of a call that are lost with both processes that knew them (guarantees.md)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from tests.chaos.facts import CallFacts, Fault, FaultKind
from tests.chaos.session_rules import is_frozen

KILLS_DISPATCHER = frozenset(
    {
        FaultKind.KILL_DISPATCHER,
        FaultKind.KILL_DISPATCHER_WITHOUT_REDIS,
        FaultKind.KILL_BOTH,
        FaultKind.HANG_DISPATCHER,
    }
)
_KILLS_WORKER = frozenset({FaultKind.KILL_WORKER, FaultKind.KILL_WORKER_WITHOUT_REDIS})
# Time from the end of a turn to its text.
TEXT_SECONDS = 2.0
# Time in which workers detect a hung dispatcher.
_FOUND_SECONDS = 2.6
# Words said this shortly before a dispatcher hangs may not have left it.
_ON_ITS_WAY_SECONDS = 0.3
# Time in which a dispatcher attaches to the session of a caller who came back.
_ATTACH_SECONDS = 0.5
# Time in which a caller notices a killed dispatcher; until then, its words go into the connection.
_NOTICED_SECONDS = 1.0


def without_lost_words(call: CallFacts) -> CallFacts:
    """Return the call without words that had no text when both processes that held them ended (guarantees.md)."""
    lost = [*both_lost(call), *_unread(call)]
    if not lost:
        return call

    def is_lost(from_seconds: float, until_seconds: float) -> bool:
        return any(from_seconds <= end and until_seconds >= begin for begin, end in lost)

    utterances = [
        dataclasses.replace(each, damaged=each.damaged or is_lost(each.from_seconds, each.until_seconds))
        for each in call.utterances
    ]
    unanswered = [at_seconds for at_seconds in call.unanswered if not is_lost(at_seconds, at_seconds)]
    return dataclasses.replace(call, utterances=utterances, unanswered=unanswered)


def both_lost(call: CallFacts) -> Iterator[tuple[float, float]]:
    """Yield the spans in which a call's words were lost with its dispatcher and its worker (guarantees.md)."""
    for fault in call.faults:
        if fault.kind is FaultKind.KILL_BOTH:
            yield fault.at_seconds - TEXT_SECONDS, fault.at_seconds
            continue
        died_seconds = _dispatcher_died_seconds(fault)
        if died_seconds is None:
            continue
        for frozen in call.frozen:
            # The worker was stopped, and the stop was not yet detected.
            opened = [each for each in call.sessions if each.opened_seconds <= died_seconds]
            is_stopped = frozen.from_seconds <= died_seconds <= frozen.until_seconds
            if is_stopped and opened and is_frozen(opened[-1], frozen):
                yield frozen.from_seconds - TEXT_SECONDS, died_seconds
        if fault.kind is FaultKind.HANG_DISPATCHER and _handed_over(call, fault):
            yield fault.at_seconds - TEXT_SECONDS, died_seconds
        for other in call.faults:
            # The worker was killed while the dispatcher hung, or before the caller had come back at another one.
            is_kill = other.kind in _KILLS_WORKER and other.at_seconds >= fault.at_seconds
            if is_kill and _stopped_seconds(call, other) <= _taken_over(call, died_seconds):
                yield fault.at_seconds - TEXT_SECONDS, max(died_seconds, other.at_seconds)


def _taken_over(call: CallFacts, died_seconds: float) -> float:
    """Return when another dispatcher knew the call, after the end of its dispatcher."""
    back = [gap.back_seconds or call.ended_seconds for gap in call.gaps if gap.lost_seconds >= died_seconds]
    return min(back, default=died_seconds) + _ATTACH_SECONDS


def _stopped_seconds(call: CallFacts, kill: Fault) -> float:
    """Return when a worker was stopped to be killed."""
    stops = [frozen.from_seconds for frozen in call.frozen if frozen.until_seconds == kill.at_seconds]
    return min(stops, default=kill.at_seconds)


def _handed_over(call: CallFacts, hang: Fault) -> bool:
    """Tell whether a session handed its call over by a dispatcher whose hang was not yet detected."""
    found_seconds = hang.at_seconds + _FOUND_SECONDS
    return any(
        session.answering and hang.at_seconds <= session.closed_seconds <= min(found_seconds, call.ended_seconds)
        for session in call.sessions
    )


def was_lost(call: CallFacts, at_seconds: float) -> bool:
    """Tell whether an event at this time was lost with both processes that knew it."""
    return any(begin <= at_seconds <= end for begin, end in both_lost(call))


def _dispatcher_died_seconds(fault: Fault) -> float | None:
    """Return the time at which a fault killed the dispatcher of a call; None: it did not."""
    if fault.kind is FaultKind.HANG_DISPATCHER:
        return fault.until_seconds if fault.was_killed else None
    return fault.at_seconds if fault.kind in KILLS_DISPATCHER else None


def _unread(call: CallFacts) -> Iterator[tuple[float, float]]:
    """Yield the spans in which the caller spoke to a hung dispatcher that was killed unread (guarantees.md)."""
    for fault in call.faults:
        if fault.kind is FaultKind.HANG_DISPATCHER and fault.was_killed:
            killed_seconds = fault.until_seconds or call.ended_seconds
            yield fault.at_seconds - _ON_ITS_WAY_SECONDS, killed_seconds + _NOTICED_SECONDS

"""Rules of a call's Realtime sessions, workers and links, as checks of its facts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator

from tests.chaos.facts import Breach, CallFacts, Fault, FaultKind, Frozen, Session, Spans
from worker.config.session_config import LEAST_ROLLOVER_PART

# Two connections have no common order, so simultaneous events may appear this far apart.
OVERLAP_SECONDS = 0.25
# Time in which a worker that wakes detects its stop.
WAKE_SECONDS = 1.0
# Time in which a worker that wakes sends what it was sending when it was stopped: it cannot know of the stop yet.
IN_FLIGHT_SECONDS = 0.05
# Time after which a call that lost its link is attached again, or moved.
ATTACH_SECONDS = 2.0
# Time after which a fault no longer affects a call.
NEAR_SECONDS = 10.0


def one_session(call: CallFacts) -> Iterator[Breach]:
    """Check that at most one session may answer; a stopped worker's session cannot."""
    for older, newer in itertools.combinations(call.sessions, 2):
        both = _common(_awake(call, older), _awake(call, newer))
        seconds = sum(end - begin for begin, end in both)
        if seconds > OVERLAP_SECONDS:
            what = f"sessions {older.number} and {newer.number} might both answer for {seconds:.2f} s"
            yield Breach("one session", what, both[0][0], call.uuid)


def woken(call: CallFacts) -> Iterator[Breach]:
    """Check that a worker that wakes does nothing with a call that was moved meanwhile."""
    for frozen, session in itertools.product(call.frozen, call.sessions):
        moved = any(frozen.from_seconds < each.opened_seconds < frozen.until_seconds for each in call.sessions)
        late = session.last_event_seconds - frozen.until_seconds
        if is_frozen(session, frozen) and moved and IN_FLIGHT_SECONDS < late < math.inf:
            what = f"session {session.number}, whose worker was stopped, got an event {late:.2f} s after it woke"
            yield Breach("woken", what, session.last_event_seconds, call.uuid)


def epochs(call: CallFacts) -> Iterator[Breach]:
    """Check that epochs never go back, and that no two pins share one."""
    for before, after in itertools.pairwise(call.pins):
        if after.epoch <= before.epoch:
            what = f"{before.worker} at epoch {before.epoch}, then {after.worker} at {after.epoch}"
            yield Breach("epochs", what, call.started_seconds, call.uuid)


def final_session(call: CallFacts) -> Session | None:
    """Return the last session that might answer, which knows all that the model was told."""
    answering = [session for session in call.sessions if session.answering]
    # A session opened last may have been abandoned for the one before it.

    def end(session: Session) -> tuple[float, int]:
        return min(session.answering[-1][1], call.ended_seconds), session.number

    return max(answering, key=end, default=None)


def ended_in_a_stop(call: CallFacts) -> bool:
    """Tell whether the caller hung up before a worker's stop was detected, so that its model was not told."""
    final = final_session(call)
    return final is not None and any(
        is_frozen(final, frozen)
        and frozen.from_seconds <= call.ended_seconds <= frozen.until_seconds + WAKE_SECONDS
        for frozen in call.frozen
    )


def _awake(call: CallFacts, session: Session) -> Spans:
    """Return the spans in which a session might answer, its worker was awake, and the call was up."""
    end_of_all = min(session.closed_seconds, call.ended_seconds)
    spans = [(begin, min(end, end_of_all)) for begin, end in session.answering if begin < end_of_all]
    for frozen in call.frozen:
        if is_frozen(session, frozen):
            spans = _without(spans, frozen.from_seconds, frozen.until_seconds + WAKE_SECONDS)
    return spans


def is_frozen(session: Session, frozen: Frozen) -> bool:
    """Tell whether the session is the stopped worker's: a port may be used again."""
    return session.peer in frozen.peers and session.opened_seconds < frozen.from_seconds


def _without(spans: Iterable[tuple[float, float]], begin: float, end: float) -> list[tuple[float, float]]:
    left = []
    for first, last in spans:
        left += [(first, min(last, begin)), (max(first, end), last)]
    return [(first, last) for first, last in left if first < last]


def _common(one: Spans, other: Spans) -> list[tuple[float, float]]:
    pairs = ((max(a, c), min(b, d)) for (a, b), (c, d) in itertools.product(one, other))
    return [(begin, end) for begin, end in pairs if begin < end]


def attached(call: CallFacts) -> Iterator[Breach]:
    """Check that a link that was cut, and can be attached again, costs no session."""
    others = [fault for fault in call.faults if fault.kind is not FaultKind.CUT_LINK]
    for fault in call.faults:
        if fault.kind is not FaultKind.CUT_LINK or any(_is_near(other, fault.at_seconds) for other in others):
            continue
        for older, session in itertools.pairwise(call.sessions):
            after = session.opened_seconds - fault.at_seconds
            age_seconds = session.opened_seconds - older.opened_seconds
            if 0 < after < ATTACH_SECONDS and age_seconds < LEAST_ROLLOVER_PART * call.rollover_seconds:
                what = f"session {session.number} was opened {after:.2f} s after the link was cut"
                yield Breach("attached", what, session.opened_seconds, call.uuid)


def _is_near(other: Fault, at_seconds: float) -> bool:
    """Tell whether another fault may be the reason."""
    until_seconds = math.inf if other.until_seconds is None and other.lasts else other.until_seconds
    return other.at_seconds - ATTACH_SECONDS < at_seconds < (until_seconds or other.at_seconds) + NEAR_SECONDS

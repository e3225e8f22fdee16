"""Changes of a call's history that break a rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from simulator.avr.call_record import ClosedBy
from tests.chaos.facts import (
    CallFacts,
    Close,
    Fault,
    FaultKind,
    Frozen,
    Item,
    Reply,
)
from tests.chaos.histories import (
    CONVERSATION,
    FIRST,
    GREETING,
    SECOND,
    a_session,
    heard_words_of,
)

Break = Callable[[CallFacts], object]


def closed(code: int, by: ClosedBy) -> Break:
    def change(call: CallFacts) -> None:
        call.closes = [Close(120.0, code, by)]
        call.hung_up = ""

    return change


def with_fields(**changes: object) -> Break:
    def change(call: CallFacts) -> None:
        for name, value in changes.items():
            setattr(call, name, value)

    return change


def with_items(*items: Item) -> Break:
    return lambda call: call.sessions.__setitem__(-1, replace(call.sessions[-1], items=items))


def greeted_twice(call: CallFacts) -> None:
    call.heard = heard_words_of(GREETING, GREETING, FIRST, SECOND)
    with_items(CONVERSATION[0], *CONVERSATION)(call)
    call.transcripts.insert(0, ("agent", GREETING))


def overlapping(call: CallFacts) -> None:
    call.sessions = [a_session(1), a_session(2, begin=120.0)]


_LONG = "reply two turn one alpha bravo charlie delta"


def answered_twice(call: CallFacts) -> None:
    again = _LONG.replace("two", "three")
    replies = (Reply(106.5, "completed", _LONG), Reply(111.5, "completed", again))
    call.sessions = [a_session(responses=(call.sessions[0].responses[0], *replies))]
    call.heard = heard_words_of(GREETING, _LONG, again)


def promised(call: CallFacts) -> None:
    with_items(*CONVERSATION, Item("function_call", name="avr_hangup", call_id="call_2"))(call)
    call.waited_for_agent = True


def tool_forgotten(call: CallFacts) -> None:
    kept = tuple(item for item in CONVERSATION if not item.type.startswith("function"))
    call.sessions = [a_session(1, end=118.0), a_session(2, begin=118.5, items=kept)]
    call.faults = [Fault(FaultKind.KILL_WORKER, 118.0)]


def never_heard_again(call: CallFacts) -> None:
    call.faults = [Fault(FaultKind.KILL_WORKER, 110.0)]
    call.sessions = [a_session(hearing=((101.0, 110.0),))]


def spoken_after_waking(call: CallFacts) -> None:
    call.faults = [Fault(FaultKind.STOP_WORKER, 110.0, lasts=True, until_seconds=115.0)]
    call.frozen = [Frozen(110.0, 115.0, frozenset({"127.0.0.1:50001"}))]
    call.sessions = [
        a_session(1, end=115.2, hearing=((101.0, 110.0),), last_event_seconds=115.1),
        a_session(2, begin=113.5),
    ]


def new_session_for_a_link(call: CallFacts) -> None:
    call.faults = [Fault(FaultKind.CUT_LINK, 110.0)]
    call.sessions = [a_session(1, end=110.2), a_session(2, begin=110.4)]


def lost_in_a_drain(call: CallFacts) -> None:
    call.faults = [Fault(FaultKind.DRAIN_WORKER, 110.0)]
    call.restorations = [113.0]


def disturbed(call: CallFacts) -> None:
    call.beside = [Fault(FaultKind.HOSTILE_INIT, 110.0, lasts=True, until_seconds=112.0)]
    call.sessions = [a_session(hearing=((101.0, 110.5), (112.5, 130.0)))]

"""Histories of calls for tests of rules; all rules are kept in them."""

from __future__ import annotations

from dataclasses import replace

from simulator.avr.call_record import ClosedBy
from tests.chaos.call_rules import answer_to, judge
from tests.chaos.ears import HeardWord
from tests.chaos.facts import (
    CallFacts,
    Close,
    Fault,
    FaultKind,
    Item,
    Part,
    Pin,
    Reply,
    Session,
    ToolRun,
    Utterance,
)

GREETING = "greeting one alpha"
FIRST, SECOND = "reply two turn one", "reply three turn two"


def agent_item(text: str, said: str = "") -> Item:
    return Item("message", role="assistant", text=text, said=said or text)


def user_item(words: int) -> Item:
    return Item("message", role="user", text=transcript_of(words), audio_ms=words * 400 + 800)


def transcript_of(words: int) -> str:
    return " ".join(["heard", *(str(each) for each in range(words))])


# Seconds from the start of the call to each reply's sound; later replies follow at the same pace.
_HEARD_SECONDS = (1.5, 6.8, 15.0, 20.0, 25.0)


def heard_words_of(*texts: str) -> list[HeardWord]:
    return [
        HeardWord(at_seconds + number * 0.4, word, 1.0)
        for at_seconds, text in zip(_HEARD_SECONDS, texts, strict=False)
        for number, word in enumerate(text.split())
    ]


def call_item(ask: str = "2", call_id: str = "call_1") -> Item:
    return Item("function_call", name="lookup", call_id=call_id, arguments=f'{{"ask":"{ask}"}}')


def output_item(text: str, call_id: str = "call_1") -> Item:
    return Item("function_call_output", call_id=call_id, output=text)


CONVERSATION = (
    agent_item(GREETING),
    user_item(2),
    agent_item(FIRST),
    user_item(5),
    call_item(),
    output_item(answer_to("2")),
    agent_item(SECOND),
)


def a_session(number: int = 1, begin: float = 101.0, end: float = 130.0, **changes: object) -> Session:
    session = Session(
        number=number,
        peer=f"127.0.0.1:{50_000 + number}",
        opened_seconds=begin - 0.1,
        closed_seconds=end,
        answering=((begin, end),),
        hearing=((begin, end),),
        last_event_seconds=end,
        items=CONVERSATION,
        responses=(
            Reply(101.2, "completed", GREETING),
            Reply(106.5, "completed", FIRST),
            Reply(114.7, "completed", SECOND),
        ),
    )
    return replace(session, **changes)  # type: ignore[arg-type]  # fields by name


def a_call() -> CallFacts:
    """Return a call of 30 s without a fault."""
    return CallFacts(
        "u-1",
        Part.TALKER,
        started_seconds=100.0,
        ended_seconds=130.0,
        closes=[Close(130.0, 1000, ClosedBy.CALLER)],
        utterances=[Utterance(105.0, 105.8, (2,)), Utterance(112.0, 114.0, (5,))],
        heard=heard_words_of(GREETING, FIRST, SECOND),
        transcripts=[
            ("agent", GREETING),
            ("user", transcript_of(2)),
            ("agent", FIRST),
            ("user", transcript_of(5)),
            ("agent", SECOND),
        ],
        sessions=[a_session()],
        tool_runs=[ToolRun("u-1", "2", 1, 115.0)],
        pins=[Pin("w-1", 1)],
        hung_up="caller",
    )


def a_moved_call(
    at_seconds: float = 110.0, gap_seconds: float = 0.5, kind: FaultKind = FaultKind.KILL_WORKER
) -> CallFacts:
    """Return a call whose worker was killed, and that continued at another."""
    call = a_call()
    fault = Fault(kind, at_seconds, frozenset({"u-1"}))
    call.faults = [fault]
    call.sessions = [
        a_session(1, end=at_seconds, items=CONVERSATION[:2]),
        a_session(2, begin=at_seconds + gap_seconds),
    ]
    call.pins.append(Pin("w-2", 2))
    return call


def broken_rules(call: CallFacts) -> list[str]:
    return [breach.rule for breach in judge(call)]

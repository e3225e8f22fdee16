from __future__ import annotations

from simulator.avr.call_record import ClosedBy
from tests.chaos.ears import HeardWord
from tests.chaos.facts import (
    CallFacts,
    Close,
    Fault,
    FaultKind,
    Gap,
    Item,
    Part,
    Reply,
    Session,
    ToolRun,
    Utterance,
)
from tests.chaos.story import story


def test_story_is_told_in_order_of_time() -> None:
    call = CallFacts(
        "u-1",
        Part.TALKER,
        started_seconds=100.0,
        ended_seconds=120.0,
        closes=[Close(110.0, 1006, ClosedBy.NOBODY), Close(120.0, 1000, ClosedBy.CALLER)],
        gaps=[Gap(110.0, 110.5)],
        utterances=[Utterance(109.0, 111.0, (5,), damaged=True)],
        heard=[HeardWord(0.3, "greeting", 1.0), HeardWord(0.7, "one", 0.5)],
        messages=[(103.0, "agent: greeting one")],
        tool_runs=[ToolRun("u-1", "2", 7, 112.0)],
        sessions=[
            Session(
                3,
                "127.0.0.1:5",
                100.1,
                float("inf"),
                answering=((100.2, float("inf")),),
                hearing=((100.3, 109.9),),
                last_event_seconds=119.0,
                items=(Item("message", role="assistant", text="greeting", said="greeting one", audio_ms=450),),
                responses=(Reply(100.2, "completed", "greeting one"),),
            )
        ],
        hung_up="caller",
        faults=[Fault(FaultKind.KILL_DISPATCHER, 109.95, frozenset({"u-1"}), detail="d-1")],
    )
    told = [line.strip() for line in story(call, zero_seconds=100.0)]
    assert told == [
        "0.00 s  the call began (talker)",
        "0.10 s  session 3 (127.0.0.1:5) opened",
        "0.20 s  session 3 (127.0.0.1:5) may answer",
        "0.20 s  session 3 (127.0.0.1:5) answers (completed): greeting one",
        "0.30 s  session 3 (127.0.0.1:5) hears the caller",
        "3.00 s  AVR Core is told: agent: greeting one",
        "9.00 s  the caller says 5 words into a lost connection",
        "9.90 s  session 3 (127.0.0.1:5) hears nothing any more",
        "9.95 s  FAULT: dispatcher killed d-1",
        "10.00 s  the caller's connection closed with 1006 by nobody",
        "10.50 s  the caller's connection is back",
        "11.00 s  the caller has said it",
        "12.00 s  tool run for 2 by 7",
        "20.00 s  the call ended; caller hung up",
        "20.00 s  the caller's connection closed with 1000 by caller",
        "session 3 knew in the end:",
        "assistant: greeting [of: greeting one] (450 ms, by )",
        "the caller heard:",
        "greeting@0.3 one~0.5@0.7",
    ]

from __future__ import annotations

from dataclasses import replace

from tests.chaos.facts import Breach, CallFacts, Fault, FaultKind, Part, Session, Utterance
from tests.chaos.results import Results


def _call(uuid: str, fault: Fault, back_seconds: float) -> CallFacts:
    spans = ((101.0, fault.at_seconds), (back_seconds, 130.0))
    return CallFacts(
        uuid,
        Part.TALKER,
        started_seconds=100.0,
        ended_seconds=130.0,
        sessions=[Session(1, "", 101.0, 130.0, ((101.0, 130.0),), spans, 130.0)],
        utterances=[Utterance(102.0, 103.0, (2,))],
        transcripts=[("user", "heard one two")],
        interruptions=1,
        hung_up="caller",
        speech_seconds=10.0,
        lost_speech_seconds=0.5,
        faults=[fault],
    )


def test_the_table_has_a_row_for_each_kind_with_its_recoveries() -> None:
    killed = Fault(FaultKind.KILL_WORKER, 110.0, frozenset({"a", "b"}))
    again = replace(killed, calls=frozenset({"c"}))
    flushed = Fault(FaultKind.FLUSH_REDIS, 115.0)
    results = Results([killed, again, flushed], [Breach("told", "something", 120.0, "a")])
    for uuid, back_seconds in (("a", 110.5), ("b", 110.75), ("c", 112.0)):
        results.add(_call(uuid, killed if uuid != "c" else again, back_seconds))
    results.impossible[FaultKind.STALLED_CORE] = 1
    assert results.recoveries(FaultKind.KILL_WORKER) == [0.5, 0.75, 2.0]
    rows = [line.split("  ") for line in results.table().splitlines()]
    cells = {row[0]: [cell.strip() for cell in row[1:] if cell.strip()] for row in rows if row[0]}
    assert cells["worker killed"] == ["2", "1", "3", "0.75 s", "2.00 s", "2.00 s"]
    assert cells["Redis flushed"] == ["1", "1", "0"]
    assert cells["core stops reading"] == ["0", "0", "0"]
    printed = results.table()
    assert "3: hung up by caller 3; 3 Realtime sessions" in printed
    assert "1.5 s of 30 s of callers' speech" in printed
    assert "breaches   1: told 1" in printed


def test_caller_not_heard_again_is_shown_as_never() -> None:
    killed = Fault(FaultKind.KILL_WORKER, 110.0, frozenset({"a"}))
    call = _call("a", killed, 110.5)
    call.sessions = [replace(call.sessions[0], hearing=((101.0, 110.0),))]
    results = Results([killed], [])
    results.add(call)
    assert "never" in results.table()
    assert "breaches   0\n" in results.table()

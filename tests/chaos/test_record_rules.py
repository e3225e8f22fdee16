"""The rules of call records find what is wrong, and excuse what a double fault may lose."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chaos.facts import CallFacts, Fault, FaultKind
from tests.chaos.histories import a_call
from tests.chaos.record_rules import of_records


def call(*, hung_up: str = "caller") -> CallFacts:
    facts = a_call()
    facts.hung_up = hung_up
    if not hung_up:
        facts.closes = []
    return facts


def record(of: CallFacts, record_id: str = "one", ending: str = "completed", **fields: Any) -> dict[str, Any]:
    return {"uuid": of.uuid, "id": record_id, "ending": ending, "reason": "caller_hung_up", **fields}


def wrong(of: CallFacts, *records: dict[str, Any], faults: tuple[Fault, ...] = ()) -> list[str]:
    return [breach.rule for breach in of_records([of], records, faults)]


def at_the_end(of: CallFacts, kind: FaultKind) -> Fault:
    return Fault(kind, of.ended_seconds)


def test_one_record_is_right() -> None:
    of = call()
    assert wrong(of, record(of)) == []


def test_the_same_record_twice_is_right() -> None:
    of = call()
    assert wrong(of, record(of), record(of)) == []


def test_records_of_other_calls_do_not_count() -> None:
    of = call()
    assert wrong(of, record(of), {"uuid": "another", "id": "two", "ending": "failed", "reason": ""}) == []


@pytest.mark.parametrize("ids", [(), ("one", "two")])
def test_another_number_of_ids_is_wrong(ids: tuple[str, ...]) -> None:
    of = call()
    assert wrong(of, *(record(of, each) for each in ids)) == ["record"]


def test_two_bodies_of_one_id_are_wrong() -> None:
    of = call()
    assert wrong(of, record(of), record(of, turns=2)) == ["record"]


@pytest.mark.parametrize(
    ("hung_up", "ending", "is_right"),
    [
        ("caller", "completed", True),
        ("agent", "completed", True),
        ("caller", "failed", False),
        ("caller", "lost", False),
        ("", "failed", True),
        ("", "lost", True),
        ("", "completed", False),
    ],
)
def test_the_ending_is_what_the_caller_saw(hung_up: str, ending: str, is_right: bool) -> None:
    of = call(hung_up=hung_up)
    assert wrong(of, record(of, ending=ending)) == ([] if is_right else ["record ending"])


def test_a_caller_who_closes_the_connection_has_hung_up() -> None:
    of = a_call()
    of.hung_up = ""
    assert of.closes
    assert wrong(of, record(of)) == []


def test_a_dispatcher_may_die_before_it_knows_the_end() -> None:
    of = call()
    faults = (at_the_end(of, FaultKind.KILL_DISPATCHER),)
    assert wrong(of, record(of, ending="lost"), faults=faults) == []
    assert wrong(of, faults=faults) == ["record"]


def test_a_double_fault_may_lose_the_record() -> None:
    of = call()
    faults = (at_the_end(of, FaultKind.KILL_DISPATCHER), at_the_end(of, FaultKind.FLUSH_REDIS))
    assert wrong(of, faults=faults) == []
    assert wrong(of, record(of), record(of, ending="lost"), faults=faults) == []

"""One response at a time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.responses import GateState, ResponseGate


@pytest.fixture
def gate() -> ResponseGate:
    return ResponseGate()


def state_of(gate: ResponseGate) -> GateState:
    """Read anew: what an assertion has found out does not hold behind the next call."""
    return gate.state


def test_the_first_is_asked_for_at_once(gate: ResponseGate) -> None:
    assert gate.want()
    assert state_of(gate) is GateState.ASKED


def test_a_second_waits_while_the_first_is_under_way_and_comes_after_it(gate: ResponseGate) -> None:
    gate.want()
    assert not gate.want()
    gate.created("r1")
    assert not gate.want()
    assert gate.done(caller_speaks=False)
    assert state_of(gate) is GateState.ASKED
    gate.created("r2")
    assert not gate.done(caller_speaks=False)
    assert state_of(gate) is GateState.IDLE


def test_one_that_the_server_began_is_waited_for_too(gate: ResponseGate) -> None:
    gate.created("r1")
    assert not gate.want()
    assert gate.done(caller_speaks=False)


def test_after_the_end_of_one_the_next_is_asked_for_at_once(gate: ResponseGate) -> None:
    gate.want()
    gate.created("r1")
    assert not gate.done(caller_speaks=False)
    assert gate.want()


def test_the_active_one_is_known_by_its_id(gate: ResponseGate) -> None:
    assert not gate.is_active("r1")
    gate.want()
    assert gate.is_active("r1")
    gate.created("r1")
    assert gate.active_id == "r1"
    assert gate.is_active("r1")
    assert not gate.is_active("r0")
    gate.done(caller_speaks=False)
    assert not gate.is_active("r1")
    assert gate.active_id is None


def test_refused_for_a_response_of_a_known_id_it_waits_for_that_ones_end(gate: ResponseGate) -> None:
    gate.want()
    gate.created("server")
    gate.refused_active()
    assert state_of(gate) is GateState.ACTIVE
    assert not gate.is_active("another")
    assert gate.is_active("server")
    assert gate.done(caller_speaks=False)


def test_refused_for_a_response_of_an_unknown_id_it_waits_for_the_next_end(gate: ResponseGate) -> None:
    gate.want()
    gate.refused_active()
    assert state_of(gate) is GateState.ACTIVE
    assert gate.is_active("whichever")
    assert not gate.want()
    assert gate.done(caller_speaks=False)
    assert state_of(gate) is GateState.ASKED


def test_refused_for_another_reason_the_gate_is_free(gate: ResponseGate) -> None:
    gate.want()
    assert not gate.refused()
    assert state_of(gate) is GateState.IDLE
    assert gate.want()


def test_refused_for_another_reason_the_one_that_waits_is_asked_for(gate: ResponseGate) -> None:
    gate.want()
    gate.want()
    assert gate.refused()
    assert not gate.refused()


def test_a_refusal_that_comes_after_the_server_began_one_changes_nothing(gate: ResponseGate) -> None:
    gate.want()
    gate.created("server")
    assert not gate.refused()
    assert gate.active_id == "server"


def test_while_the_caller_speaks_what_waits_is_given_up(gate: ResponseGate) -> None:
    gate.want()
    gate.created("r1")
    gate.want()
    assert not gate.done(caller_speaks=True)
    assert state_of(gate) is GateState.IDLE
    gate.created("the server's answer to the caller")
    assert not gate.done(caller_speaks=False)


def test_one_that_was_asked_for_and_never_came_is_asked_for_again(gate: ResponseGate) -> None:
    gate.want()
    assert gate.lost(caller_speaks=False)
    assert state_of(gate) is GateState.ASKED
    assert not gate.lost(caller_speaks=True)
    assert state_of(gate) is GateState.IDLE


def test_one_that_never_ends_makes_way_for_the_one_that_waits(gate: ResponseGate) -> None:
    gate.created("r1")
    assert not gate.lost(caller_speaks=False)
    gate.created("r2")
    gate.want()
    assert gate.lost(caller_speaks=False)


Step = st.sampled_from(["want", "created", "done", "done while speaking", "refused", "refused active", "lost"])


@given(st.lists(Step, max_size=30))
def test_whatever_happens_none_is_asked_for_while_one_is_under_way_and_none_is_forgotten(steps: list[str]) -> None:
    gate = ResponseGate()
    owed = False
    for number, step in enumerate(steps):
        before = gate.state
        asks = False
        match step:
            case "want":
                asks = gate.want()
                owed = owed or not asks
            case "created":
                gate.created(f"r{number}")
            case "done" | "done while speaking":
                if gate.is_active(gate.active_id):
                    asks = gate.done(caller_speaks=step != "done")
                    owed = owed and step == "done"
            case "refused":
                asks = gate.refused()
            case "refused active":
                gate.refused_active()
                owed = True
            case "lost":
                owed = owed or before is GateState.ASKED
                asks = gate.lost(caller_speaks=False)
        if asks:
            assert state_of(gate) is GateState.ASKED
            assert step == "want" or owed
            assert step != "want" or before is GateState.IDLE
            owed = owed and step == "want"
        if gate.state is GateState.IDLE:
            assert not owed
            assert gate.active_id is None


@pytest.mark.parametrize("over", ["lost", "refused", "done"])
def test_one_that_was_not_wanted_any_more_and_never_came_does_not_silence_the_next(
    gate: ResponseGate, over: str
) -> None:
    gate.want()
    gate.unwanted = True
    gate.want()
    assert gate.refused() if over == "refused" else getattr(gate, over)(caller_speaks=False)
    assert not gate.created("resp_1")

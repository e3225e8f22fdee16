"""The table of a call's transitions."""

from __future__ import annotations

import itertools

import pytest

from common.errors import IllegalTransition, LinkProtocolError
from dispatcher.call.states import TRANSITIONS, Event, State, transition

OF_WORKERS = {Event.OPENED, Event.READY, Event.REFUSED}
LEGAL = {(state, event) for state, events in TRANSITIONS.items() for event in events}


def test_every_state_has_its_transitions() -> None:
    assert set(TRANSITIONS) == set(State)


def test_every_state_but_the_first_is_reached() -> None:
    reached = {following for events in TRANSITIONS.values() for following in events.values()}
    assert reached == set(State) - {State.AWAITING_INIT}


def test_every_event_has_a_transition() -> None:
    assert {event for _, event in LEGAL} == set(Event)


def test_every_state_ends_but_the_last() -> None:
    assert {state for state, event in LEGAL if event is Event.END} == set(State) - {State.ENDED}


@pytest.mark.parametrize(
    ("state", "event"), sorted(pair for pair in itertools.product(State, Event) if pair not in LEGAL), ids=str
)
def test_a_transition_that_the_table_lacks_raises(state: State, event: Event) -> None:
    if event in OF_WORKERS:
        with pytest.raises(LinkProtocolError, match=f"{event} in state {state}"):
            transition(state, event)
        return
    with pytest.raises(IllegalTransition) as raised:
        transition(state, event)
    assert (raised.value.machine, raised.value.state, raised.value.event) == ("call", state.value, event.value)

"""The table of a session's states."""

from __future__ import annotations

import itertools

import pytest

from common.errors import IllegalTransition
from worker.session.states import TRANSITIONS, SessionEvent, State, next_state


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, SessionEvent)))
def test_a_transition_is_in_the_table_or_raises(state: State, event: SessionEvent) -> None:
    if (state, event) in TRANSITIONS:
        assert next_state(state, event) is TRANSITIONS[state, event]
        return
    with pytest.raises(IllegalTransition, match=f"the session .* {event.value} in the state {state.value}$"):
        next_state(state, event)


def test_every_state_can_be_reached_and_left_but_the_last() -> None:
    assert {State.CONNECTING, *TRANSITIONS.values()} == set(State)
    assert {state for state, _ in TRANSITIONS} == set(State) - {State.ENDED}


def test_every_running_session_can_be_released_and_ended() -> None:
    for state in set(State) - {State.ENDED}:
        assert next_state(state, SessionEvent.RELEASED) is State.ENDED
        assert next_state(state, SessionEvent.ENDED) is State.ENDED

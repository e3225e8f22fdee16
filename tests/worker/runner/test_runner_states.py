"""The tables of a shell's states."""

from __future__ import annotations

import itertools

import pytest

from common.errors import IllegalTransition
from worker.runner.runner_states import (
    ATTACHMENT_TRANSITIONS,
    RUNNER_TRANSITIONS,
    Attachment,
    AttachmentEvent,
    AttachmentState,
    RunnerEvent,
    RunnerState,
    next_runner_state,
)

LOST, STALLED, BACK, CONFIRMED = (
    AttachmentEvent.LINK_LOST,
    AttachmentEvent.STALLED,
    AttachmentEvent.ATTACHED,
    AttachmentEvent.CONFIRMED,
)


@pytest.mark.parametrize(("state", "event"), list(itertools.product(RunnerState, RunnerEvent)))
def test_a_transition_of_the_shell_is_in_the_table_or_raises(state: RunnerState, event: RunnerEvent) -> None:
    if (state, event) in RUNNER_TRANSITIONS:
        assert next_runner_state(state, event) is RUNNER_TRANSITIONS[state, event]
        return
    with pytest.raises(IllegalTransition, match=f"session runner .* {event.value} in the state {state.value}"):
        next_runner_state(state, event)


@pytest.mark.parametrize(("state", "event"), list(itertools.product(AttachmentState, AttachmentEvent)))
def test_an_attachment_takes_every_event_in_every_state(state: AttachmentState, event: AttachmentEvent) -> None:
    assert (state, event) in ATTACHMENT_TRANSITIONS


def attachment(*events: AttachmentEvent) -> Attachment:
    """Return an attachment to which these have happened, all at 100 s."""
    made = Attachment()
    for event in events:
        made.take(event, 100.0)
    return made


def is_suspended(made: Attachment) -> bool:
    """Read anew: what an assertion has found out does not hold behind the next event."""
    return made.is_suspended


def is_overdue(made: Attachment, seconds: float) -> bool:
    return made.is_overdue(100.0 + seconds, kept_seconds=15.0, confirmed_within_seconds=1.0)


def test_a_call_without_a_dispatcher_is_kept_for_its_caller() -> None:
    made = attachment(LOST)
    assert made.is_detached
    assert not is_suspended(made)
    assert not is_overdue(made, 14.9)
    assert is_overdue(made, 15.0)


def test_after_a_stall_the_dispatcher_has_a_second_to_confirm() -> None:
    made = attachment(STALLED)
    assert is_suspended(made)
    assert not is_overdue(made, 1000.0)
    made.take(LOST, 100.0)
    # Redis cannot confirm what a dispatcher has to.
    assert not made.take(CONFIRMED, 100.0)
    assert not made.is_detached
    assert not is_overdue(made, 0.9)
    assert is_overdue(made, 1.0)
    assert made.take(BACK, 101.0)
    assert not is_suspended(made)


def test_a_stall_without_a_dispatcher_is_confirmed_by_redis() -> None:
    made = attachment(LOST, STALLED)
    assert is_suspended(made)
    assert made.is_detached
    assert not is_overdue(made, 14.9)
    assert is_overdue(made, 15.0)
    assert made.take(CONFIRMED, 101.0)
    assert not is_suspended(made)
    assert is_overdue(made, 15.0)

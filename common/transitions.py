"""The step of a state machine whose transitions stand in a table."""

from __future__ import annotations

from enum import Enum
from typing import TypeVar

from common.errors import IllegalTransition

S = TypeVar("S", bound=Enum)


def checked(machine: str, state: S, event: Enum, following: S | None) -> S:
    """Return the state that follows, as the table has it.

    Args:
        machine: name of the state machine, for the log.
        state: the state before the event.
        event: what happens.
        following: what the table has; None: it has no such transition.

    Raises:
        IllegalTransition: the table has no such transition.
    """
    if following is None:
        raise IllegalTransition(machine, state.value, event.value)
    return following

"""A transition that no table has is a fault of this service."""

from __future__ import annotations

from enum import Enum

import pytest

from common.errors import IllegalTransition
from common.transitions import checked


class State(Enum):
    """States of a test."""

    OFF = "off"
    ON = "on"


class Event(Enum):
    """Events of a test."""

    PRESSED = "pressed"


def test_a_transition_of_the_table_gives_its_state() -> None:
    assert checked("lamp", State.OFF, Event.PRESSED, State.ON) is State.ON


def test_another_transition_is_named() -> None:
    with pytest.raises(IllegalTransition) as error:
        checked("lamp", State.ON, Event.PRESSED, None)
    assert (error.value.machine, error.value.state, error.value.event) == ("lamp", "on", "pressed")

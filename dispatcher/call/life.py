"""The state of a call, as the parts of the call share it."""

from __future__ import annotations

from dispatcher.call.states import Event, State, transition


class CallLife:
    """State of one call.

    Attributes:
        state: see `states.py`.
    """

    def __init__(self) -> None:
        self.state = State.AWAITING_INIT

    def enter(self, event: Event) -> None:
        """Change the state.

        Raises:
            LinkProtocolError: a worker sent a record that is invalid in this state.
            IllegalTransition: the event cannot happen in this state.
        """
        self.state = transition(self.state, event)

"""Reports to the dispatcher whether the caller waits for an answer, so that the dispatcher can play filler."""

from __future__ import annotations

from common.link import wire
from worker.session.lifecycle import Lifecycle
from worker.session.parts import SessionParts
from worker.session.states import State


class AwaitingReport:
    """Reporter of one session. It reports changes (AWAITING), if the dispatcher asked for them in OPEN."""

    def __init__(self, parts: SessionParts, life: Lifecycle, *, is_wanted: bool) -> None:
        self._parts = parts
        self._life = life
        self._is_wanted = is_wanted
        self._reported = False

    def begin_again(self, *, is_wanted: bool) -> None:
        """Report the present value to another dispatcher next."""
        self._is_wanted = is_wanted
        self._reported = False

    def went_live(self) -> None:
        """Report the present value again, because READY makes a dispatcher forget earlier reports."""
        self._reported = False

    def report(self, *, goes_on: bool) -> None:
        """Report a change.

        Args:
            goes_on: the former session owed an answer when it was lost.
        """
        if not self._is_wanted:
            return
        parts, state = self._parts, self._life.state
        if state is State.LIVE:
            is_owed = parts.answers.responses.owes or parts.calls.any_open
            waits = is_owed and not parts.memory_writer.speaking and not parts.secret_entry.is_on
        else:
            waits = state is not State.STANDBY and (goes_on or parts.conversation.last() is None)
        if waits != self._reported and state is not State.ENDED:
            self._reported = waits
            parts.out.record(wire.Awaiting(waits))

"""Tells the dispatcher, for its filler, whether the caller waits for something to hear."""

from __future__ import annotations

from common.link import wire
from worker.session.lifecycle import Lifecycle
from worker.session.parts import SessionParts
from worker.session.states import State


class AwaitingReport:
    """The AWAITING records of one session: changes only, and only for a dispatcher that wants them."""

    def __init__(self, parts: SessionParts, life: Lifecycle, *, is_wanted: bool) -> None:
        self._parts = parts
        self._life = life
        self._is_wanted = is_wanted
        self._reported = False

    def begin_again(self, *, is_wanted: bool) -> None:
        """Report to another dispatcher."""
        self._is_wanted = is_wanted
        self._reported = False

    def went_live(self) -> None:
        """Tell everything anew: a dispatcher relies on nothing that it was told before READY."""
        self._reported = False

    def report(self, *, goes_on: bool) -> None:
        """Tell a change.

        Args:
            goes_on: the model was about to say something when the session before this one was lost.
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

"""The life of a session: its state, and the ways in which it ends."""

from __future__ import annotations

from common.link import wire
from common.link.wire import Outcome
from worker.session.actions import Collected, Ended, Released
from worker.session.parts import SessionParts
from worker.session.states import SessionEvent, State, next_state
from worker.tools.entries import EntryEnding

HANG_UP_ORDER = "hang-up"
# What a tool is told whose keys are discarded.
CALL_MOVES = "the call goes on in another session: ask the caller again"
CALL_ENDED = "the call has ended"


class Lifecycle:
    """The life of one session.

    Attributes:
        state: see `worker/session/states.py`.
        hang_up_reason: why this session has ordered a hang-up; empty: it has not.
        ignored: events and records of peers without an effect: of unknown types, or after the end.
    """

    def __init__(self, parts: SessionParts) -> None:
        self.state = State.CONNECTING
        self.hang_up_reason = ""
        self.ignored = 0
        self._parts = parts

    @property
    def has_ended(self) -> bool:
        """Whether nothing of the session goes on."""
        return self.state is State.ENDED

    def ignores_peers(self) -> bool:
        """Count an event of a peer if the session has ended; True: the event has no effect."""
        if self.state is not State.ENDED:
            return False
        self.ignored += 1
        return True

    def advance(self, event: SessionEvent) -> None:
        """Go on to the next state.

        Raises:
            IllegalTransition: the state does not allow the event.
        """
        self.state = next_state(self.state, event)

    def release(self, reason: str, message: str) -> None:
        """Give up the session: the call goes on in another one."""
        if self.state is State.ENDED:
            return
        parts = self._parts
        parts.answers.leave_sayings()
        parts.memory_writer.write()
        # Orders that wait behind unsent words: the dispatcher keeps them from here on.
        for order in parts.agent.waiting_orders:
            parts.out.record(order)
        parts.out.record(wire.Released(reason, message))
        self._close(SessionEvent.RELEASED)
        parts.out.actions.append(Released(reason, message))

    def end(self, outcome: Outcome, message: str) -> None:
        """End the call, and tell the dispatcher."""
        if self.state is not State.ENDED:
            self._parts.out.record(wire.Ended(outcome.value, message))
            self.finish(outcome, message)

    def finish(self, outcome: Outcome, reason: str) -> None:
        """End a call of which the dispatcher knows that it is over."""
        if self.state is not State.ENDED:
            self._close(SessionEvent.ENDED)
            self._parts.out.actions.append(Ended(outcome, reason))

    def hang_up(self, reason: str, *, repeat: bool = False) -> None:
        """Have Asterisk end the call behind queued speech; a transferred call ends only on this side.

        Args:
            reason: for people.
            repeat: order it again. A dispatcher that knows the order ignores the second one.
        """
        parts = self._parts
        if parts.calls.has_transferred:
            self.end(Outcome.COMPLETED, reason)
        elif repeat or (self.state is not State.ENDED and not self.hang_up_reason):
            self.hang_up_reason = reason
            parts.log.info("hanging up", reason=reason)
            parts.agent.order(wire.TelephonyCommand(HANG_UP_ORDER, wire.TelephonyAction.HANG_UP.value))

    def _close(self, event: SessionEvent) -> None:
        self.advance(event)
        entry = self._parts.secret_entry
        if not entry.is_free:
            message = CALL_MOVES if event is SessionEvent.RELEASED else CALL_ENDED
            ended = entry.end(EntryEnding.LOST, message)
            self._parts.out.actions.append(Collected(entry.number, ended))
        self._parts.audio.forget()
        self._parts.updates.close()

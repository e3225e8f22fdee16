"""The state of a session, and the ways in which the session ends."""

from __future__ import annotations

from common.link import wire
from common.link.wire import EndReason, Outcome
from worker.session.actions import Collected, Ended, Released
from worker.session.hang_up import HangUp
from worker.session.parts import SessionParts
from worker.session.states import SessionEvent, State, next_state
from worker.tools.entries import EntryEnding

HANG_UP_ID = "hang-up"
# Messages to a tool whose keys are discarded.
CALL_MOVES = "the call goes on in another session: ask the caller again"
CALL_ENDED = "the call has ended"


class Lifecycle:
    """State of one session, and its ends.

    Attributes:
        state: see `worker/session/states.py`.
        requested_hang_up: the hang-up that this session has requested; None: no hang-up.
        ignored: number of ignored events and records: of unknown types, or after the end.
    """

    def __init__(self, parts: SessionParts) -> None:
        self.state = State.CONNECTING
        self.requested_hang_up: HangUp | None = None
        self.ignored = 0
        self._parts = parts

    @property
    def has_ended(self) -> bool:
        """Whether the session has ended."""
        return self.state is State.ENDED

    def ignores_peers(self) -> bool:
        """Count an event of a peer if the session has ended; True: the event has no effect."""
        if self.state is not State.ENDED:
            return False
        self.ignored += 1
        return True

    def advance(self, event: SessionEvent) -> None:
        """Enter the next state.

        Raises:
            IllegalTransition: the state does not allow the event.
        """
        self.state = next_state(self.state, event)

    def release(self, reason: str, message: str) -> None:
        """End this session, and have another one continue the call."""
        if self.state is State.ENDED:
            return
        parts = self._parts
        parts.answers.note_owed_texts()
        parts.memory_writer.write()
        # The dispatcher keeps the telephony commands that wait behind unsent audio.
        for order in parts.agent.waiting_commands:
            parts.out.record(order)
        parts.out.record(wire.Released(reason, message))
        self._close(SessionEvent.RELEASED)
        parts.out.actions.append(Released(reason, message))

    def end(self, outcome: Outcome, message: str, reason: EndReason) -> None:
        """End the call, and tell the dispatcher."""
        if self.state is not State.ENDED:
            self._parts.out.record(wire.Ended(outcome.value, message, reason.value))
            self.finish(outcome, message)

    def finish(self, outcome: Outcome, reason: str) -> None:
        """End the session, when the dispatcher knows already that the call has ended."""
        if self.state is not State.ENDED:
            self._close(SessionEvent.ENDED)
            self._parts.out.actions.append(Ended(outcome, reason))

    def hang_up(self, order: HangUp, *, repeat: bool = False) -> None:
        """Have Asterisk end the call behind queued speech; a transferred call ends only on this side.

        Args:
            order: the reason.
            repeat: send the command again. A dispatcher ignores a command that it knows.
        """
        parts = self._parts
        if parts.calls.has_transferred:
            self.end(Outcome.COMPLETED, order.text, EndReason.TRANSFERRED)
        elif repeat or (self.state is not State.ENDED and self.requested_hang_up is None):
            self.requested_hang_up = order
            parts.log.info("hanging up", reason=order.text)
            action, reason = wire.TelephonyAction.HANG_UP.value, order.reason.value
            parts.agent.send_command(wire.TelephonyCommand(HANG_UP_ID, action, end_reason=reason))

    def _close(self, event: SessionEvent) -> None:
        self.advance(event)
        entry = self._parts.secret_entry
        if not entry.is_free:
            message = CALL_MOVES if event is SessionEvent.RELEASED else CALL_ENDED
            ended = entry.end(EntryEnding.LOST, message)
            self._parts.out.actions.append(Collected(entry.number, ended))
        self._parts.audio.forget()
        self._parts.updates.close()

"""Results of avr-ami for a call: a hang-up or transfer that was done, or failed."""

from __future__ import annotations

from common.link import wire
from common.observe.metrics import FallbackOutcome
from dispatcher.call.action_queue import ActionQueue
from dispatcher.call.actions import CallEnd, Ending, TookWayOut
from dispatcher.call.assignments import Assignments
from dispatcher.call.caller.presence import CallerPresence
from dispatcher.call.ends import CallEnds
from dispatcher.call.life import CallLife
from dispatcher.call.states import State
from dispatcher.call.telephony import Telephony
from dispatcher.call.way_out import WayOut


class TelephonyResults:
    """Results of avr-ami for one call, passed to its worker; some of them end the call."""

    def __init__(
        self,
        out: ActionQueue,
        life: CallLife,
        ends: CallEnds,
        *,
        assignments: Assignments,
        presence: CallerPresence,
        telephony: Telephony,
        way_out: WayOut,
    ) -> None:
        """Take the parts of a call that a result changes."""
        self._out = out
        self._life = life
        self._ends = ends
        self._assignments = assignments
        self._presence = presence
        self._telephony = telephony
        self._way_out = way_out

    def executed(self, command: wire.TelephonyCommand, ok: bool, message: str, now_seconds: float) -> None:
        """Take the result of a command of the agent or the calls API."""
        telephony = self._telephony
        result = wire.TelephonyDone(command.id, ok, message)
        telephony.executed(command, result)
        if self._life.state is State.ENDED:
            return
        if self._assignments.current is not None:
            self._out.record(self._assignments.current, result)
        if command.action == wire.TelephonyAction.HANG_UP:
            if ok:
                # AVR Core closes the connection when Asterisk has hung up.
                telephony.hung_up_seconds = now_seconds
            else:
                # avr-ami cannot hang up, so the end of the connection ends the call.
                self._ends.end(CallEnd(Ending.COMPLETED, telephony.end_reason, ""), 1000)
        elif ok and self._way_out.parting is not None:
            # The agent's transfer was carried out, so the call needs no other way out.
            self._way_out.parting.outcome = FallbackOutcome.TRANSFERRED
            telephony.hung_up_seconds = now_seconds
        self._end_lost_caller()

    def transferred_away(self, outcome: FallbackOutcome, now_seconds: float) -> None:
        """Take the outcome of the transfer of a call on its way out."""
        parting = self._way_out.transferred(outcome)
        if self._life.state is State.ENDED:
            # AVR Core may close the connection before avr-ami answers, as soon as Asterisk has moved the call.
            self._out.actions.append(TookWayOut(outcome, parting.why.message))
        elif outcome is FallbackOutcome.TRANSFERRED:
            self._telephony.hung_up_seconds = now_seconds
            self._end_lost_caller()
        else:
            self._ends.end(parting.why, parting.code)

    def _end_lost_caller(self) -> None:
        """End a call at once if its connection broke while avr-ami hung up or transferred the call."""
        if self._presence.is_away and self._telephony.is_over:
            self._ends.finish(CallEnd(Ending.COMPLETED, self._telephony.end_reason, self._presence.reason))

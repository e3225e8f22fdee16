"""A call on Asterisk: commands of its agent and of the calls API, and their results at avr-ami."""

from __future__ import annotations

from common.link import wire
from common.link.wire import EndReason
from dispatcher.call.action_queue import ActionQueue
from dispatcher.call.actions import Execute
from dispatcher.call.assignment import Assignment
from dispatcher.call.parting import CORE_BUFFER_SECONDS
from dispatcher.call.playback.reply_playback import ReplyPlayback
from dispatcher.call.telephony_commands import TRANSFERRED, TelephonyCommands


class Telephony:
    """Commands of one call to Asterisk, and whether Asterisk has ended the call.

    Attributes:
        commands: commands of the agent.
        hung_up_seconds: time at which avr-ami hung up or transferred the call; None: it did not.
        is_told_to_hang_up: the calls API has requested a hang-up.
        end_reason: reason of the end, if the caller's connection is closed now.
    """

    def __init__(self, out: ActionQueue, playback: ReplyPlayback, patience_seconds: float) -> None:
        """Make the telephony of a call without commands.

        Args:
            out: queue of the call's actions.
            playback: playback of the call's replies.
            patience_seconds: maximum time that a command waits until the agent's last words have been heard.
        """
        self.commands = TelephonyCommands(patience_seconds)
        self.hung_up_seconds: float | None = None
        self.is_told_to_hang_up = False
        self.end_reason = EndReason.CALLER_HUNG_UP
        self._out = out
        self._playback = playback

    @property
    def is_over(self) -> bool:
        """Whether avr-ami has hung up or transferred the call. Then the loss of the connection is expected."""
        return self.hung_up_seconds is not None or self.commands.has_transferred

    @property
    def is_busy(self) -> bool:
        """Whether a command waits or is being carried out, or avr-ami has hung up."""
        return self.commands.is_busy or self.hung_up_seconds is not None

    def hang_up(self) -> None:
        """Hang up for the calls API."""
        self.is_told_to_hang_up = True
        reason = EndReason.API_HUNG_UP.value
        hang_up = wire.TelephonyCommand("the calls API", wire.TelephonyAction.HANG_UP, end_reason=reason)
        self._begin(hang_up)

    def executed(self, command: wire.TelephonyCommand, result: wire.TelephonyDone) -> None:
        """Note the result of a command at avr-ami."""
        self.commands.executed(result)
        if command.action == wire.TelephonyAction.TRANSFER and not result.ok:
            self.end_reason = EndReason.CALLER_HUNG_UP

    def execute_due(self, assignment: Assignment | None, now_seconds: float) -> None:
        """Carry out the command that is due, and answer void commands."""
        for void in self.commands.take_void():
            if assignment is not None:
                self._out.record(assignment, wire.TelephonyDone(void.id, True, TRANSFERRED))
            if void.action == wire.TelephonyAction.HANG_UP and self.hung_up_seconds is None:
                # Another extension has the call. Only the connection of AVR Core may still be open.
                self.hung_up_seconds = now_seconds
        self._execute(now_seconds, all_heard=self._last_words_played(now_seconds))

    def execute_promised(self, now_seconds: float) -> bool:
        """Carry out commands for a caller that did not reconnect; return whether one is under way.

        AVR Core is disconnected, but Asterisk may still have the caller's channel. The last words are not played.
        """
        self._execute(now_seconds, all_heard=True)
        return self.commands.is_busy

    def _execute(self, now_seconds: float, *, all_heard: bool) -> None:
        command = self.commands.due(now_seconds, all_heard=all_heard)
        if command is not None:
            self._begin(command)

    def _begin(self, command: wire.TelephonyCommand) -> None:
        # Asterisk may end the connection before avr-ami answers.
        if command.action == wire.TelephonyAction.TRANSFER:
            self.end_reason = EndReason.TRANSFERRED
        else:
            self.end_reason = wire.end_reason(command.end_reason, EndReason.AGENT_HUNG_UP)
        self._out.actions.append(Execute(command))

    def _last_words_played(self, now_seconds: float) -> bool:
        """Return whether AVR Core has played all replies. It plays a little later than the playout clock."""
        playback = self._playback
        played_seconds = playback.quiet_since_seconds + CORE_BUFFER_SECONDS
        return playback.all_heard(now_seconds) and played_seconds <= now_seconds

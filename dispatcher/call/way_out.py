"""The way out of a call that cannot continue: a recorded sentence, then a transfer to people, or the end."""

from __future__ import annotations

from common.observe.metrics import FallbackOutcome
from dispatcher.call.action_queue import ActionQueue
from dispatcher.call.actions import CallEnd, Ending, TookWayOut, TransferAway
from dispatcher.call.announcements import Announcements
from dispatcher.call.parting import CORE_BUFFER_SECONDS, Parting
from dispatcher.call.playback.reply_playback import ReplyPlayback


class WayOut:
    """Way out of one call.

    Attributes:
        parting: progress; None: the call has not taken the way out.
    """

    def __init__(
        self, out: ActionQueue, playback: ReplyPlayback, announcements: Announcements, patience_seconds: float
    ) -> None:
        """Make a way out.

        Args:
            out: queue of the call's actions.
            playback: playback of the call's replies.
            announcements: the sentence, and the destination of the transfer.
            patience_seconds: maximum time until the sentence has been heard.
        """
        self.parting: Parting | None = None
        self._out = out
        self._playback = playback
        self._announcements = announcements
        self._patience_seconds = patience_seconds

    @property
    def exists(self) -> bool:
        """Whether there is a sentence to play, or people to transfer to."""
        return bool(self._announcements.sentence or self._announcements.extension)

    @property
    def is_final(self) -> bool:
        """Whether the calls API has hung up, or the transfer is under way."""
        parting = self.parting
        return parting is not None and (parting.is_hung_up or parting.is_transferring)

    def begin(self, why: CallEnd, code: int, now_seconds: float) -> None:
        """Take the way out.

        Args:
            why: the reason why the call cannot continue.
            code: the close code with which the call ends unless it is transferred.
            now_seconds: the time.
        """
        self.parting = Parting(self._announcements.sentence, why, code, now_seconds)

    def go_on(self, now_seconds: float, *, is_busy: bool) -> Parting | None:
        """Play more of the sentence, or transfer the call; return the way out if the call must end now.

        Args:
            now_seconds: the time.
            is_busy: avr-ami has another command for the call, or has hung up or transferred the call.
        """
        parting, playback = self.parting, self._playback
        if parting is None or self.is_final or is_busy:
            return None
        if now_seconds - parting.since_seconds < self._patience_seconds:
            if playback.is_held:
                return None
            playback.own_sound(parting.take(playback.ahead_seconds(now_seconds)), now_seconds)
            if not parting.is_said or not playback.all_heard(now_seconds):
                return None
            if playback.ended_seconds + CORE_BUFFER_SECONDS > now_seconds:
                return None
        elif playback.is_held:
            return parting
        if self._announcements.extension:
            parting.is_transferring = True
            self._out.actions.append(TransferAway(self._announcements.extension, self._announcements.context))
            return None
        parting.outcome = FallbackOutcome.ENDED
        return parting

    def transferred(self, outcome: FallbackOutcome) -> Parting:
        """Note the outcome of the transfer; return the way out, which says how the call ends."""
        parting = self.parting
        assert parting is not None
        parting.outcome = outcome
        parting.is_transferring = False
        return parting

    def ended(self, end: CallEnd) -> CallEnd:
        """Return how a call that ends now is counted, and why it ended.

        A call on its way out has failed, for the reason of the way out. That holds even if the caller hangs up.
        """
        parting = self.parting
        if parting is None:
            return end
        why = parting.why
        if not parting.is_transferring:
            self._out.actions.append(TookWayOut(parting.outcome, why.message))
        message = why.message if end.message in ("", why.message) else f"{why.message}; {end.message}"
        return CallEnd(why.ending if end.ending is not Ending.MOVED else end.ending, why.reason, message)

"""The playback of a call's filler to AVR Core."""

from __future__ import annotations

from dispatcher.call.action_queue import ActionQueue
from dispatcher.call.actions import Wake
from dispatcher.call.playback.filler import STEP_SECONDS, Filler
from dispatcher.call.playback.reply_playback import ReplyPlayback


class FillerPlayback:
    """Playback of filler, while an answer is owed and no reply plays; at ticks and at `Wake`."""

    def __init__(self, out: ActionQueue, playback: ReplyPlayback, filler: Filler) -> None:
        """Make a playback without filler so far."""
        self._out = out
        self._playback = playback
        self._filler = filler
        self._has_wake = False

    @property
    def is_on(self) -> bool:
        """Whether there is a sound to play."""
        return self._filler.is_on

    def owed(self, now_seconds: float) -> None:
        """Note that an answer is owed, since now or longer."""
        self._filler.owed(now_seconds)

    def woke(self) -> None:
        """Note that the time of a `Wake` has come."""
        self._has_wake = False

    def play(self, now_seconds: float, *, is_allowed: bool) -> None:
        """Play the next piece of filler, if that is due."""
        filler, playback = self._filler, self._playback
        if (
            not is_allowed
            or playback.is_held
            or not filler.is_due(playback.quiet_since_seconds, now_seconds)
            or not playback.all_heard(now_seconds)
        ):
            filler.stop()
            return
        playback.own_sound(filler.take(playback.ahead_seconds(now_seconds)), now_seconds)
        if not self._has_wake:
            self._has_wake = True
            self._out.actions.append(Wake(now_seconds + STEP_SECONDS))

    def session_lost(self, now_seconds: float, *, is_replying: bool) -> None:
        """Note that the next session owes the answer that the lost session owed."""
        if self._filler.is_on and (self._filler.is_owed or is_replying):
            self._filler.owed(now_seconds)

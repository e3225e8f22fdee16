"""The mute of a caller whose keys a tool collects. Keys are audible, so silence replaces the caller's audio.

    OFF ──begin──▶ ON ──end──▶ TAIL ──no key for TAIL_SECONDS──▶ OFF
     │              └─abandoned, or session lost─▶ STRAY ──▶ OFF
     └──taken over from another dispatcher───────────▲└──begin──▶ SETTLING ──▶ ON

STRAY: no session collects keys any more, and the caller may still be pressing them. The state ends when the next
session is up and no key has come for STRAY_SECONDS. It ends after MAX_STRAY_SECONDS at the latest.
SETTLING: another collection waits, because the caller may still be pressing keys for the collection before. It
begins when no key has come for SETTLE_SECONDS. It begins after MAX_SETTLING_SECONDS at the latest.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final

from common.transitions import checked

# Maximum delay of the last key's sound, because AVR Core sends keys and audio in separate messages.
TAIL_SECONDS: Final = 0.5
# Maximum length of the tail, which further keys prolong.
MAX_TAIL_SECONDS: Final = 5.0
STRAY_SECONDS: Final = 2.0
MAX_STRAY_SECONDS: Final = 15.0
SETTLE_SECONDS: Final = 1.0
# The worker waits a little longer for COLLECTING (`worker/session/caller/secret_entry.py`).
MAX_SETTLING_SECONDS: Final = 5.0
# Maximum length of a collection, even if its worker asks for more.
MAX_COLLECTION_SECONDS: Final = 300.0


class MuteState(Enum):
    """State of a caller's mute."""

    OFF = "off"
    ON = "on"
    TAIL = "tail"
    STRAY = "stray"
    SETTLING = "settling"


class MuteEvent(Enum):
    """Event that changes the state of a mute."""

    BEGIN = "begin"
    END = "end"
    ABANDON = "abandon"
    TAKE_OVER = "take over"
    TIME = "time"


TRANSITIONS: Final[dict[MuteState, dict[MuteEvent, MuteState]]] = {
    MuteState.OFF: {MuteEvent.BEGIN: MuteState.ON, MuteEvent.TAKE_OVER: MuteState.STRAY},
    MuteState.ON: {
        MuteEvent.BEGIN: MuteState.ON,
        MuteEvent.END: MuteState.TAIL,
        MuteEvent.ABANDON: MuteState.STRAY,
        MuteEvent.TAKE_OVER: MuteState.STRAY,
        MuteEvent.TIME: MuteState.TAIL,
    },
    MuteState.TAIL: {
        MuteEvent.BEGIN: MuteState.ON,
        MuteEvent.TAKE_OVER: MuteState.STRAY,
        MuteEvent.TIME: MuteState.OFF,
    },
    MuteState.STRAY: {
        MuteEvent.BEGIN: MuteState.SETTLING,
        MuteEvent.TAKE_OVER: MuteState.STRAY,
        MuteEvent.TIME: MuteState.OFF,
    },
    MuteState.SETTLING: {
        MuteEvent.BEGIN: MuteState.SETTLING,
        MuteEvent.ABANDON: MuteState.STRAY,
        MuteEvent.TAKE_OVER: MuteState.STRAY,
        MuteEvent.TIME: MuteState.ON,
    },
}


class CallerMute:
    """Mute of one caller.

    Attributes:
        state: see the top of this file.
    """

    def __init__(self, changed: Callable[[bool, float], None] | None = None) -> None:
        """Make the mute of a caller who is heard.

        Args:
            changed: is called when the mute is on or off, with the time since which that holds: a recording is to
                have silence there.
        """
        self.state = MuteState.OFF
        self._changed = changed
        self._number = 0
        self._collection_seconds = 0.0
        self._is_confirmed = True
        self._last_key_seconds = float("-inf")
        # Time of the last key, or of the beginning of the present state.
        self._quiet_since_seconds = 0.0
        self._until_seconds = 0.0
        self._awaits_session = False

    @property
    def is_on(self) -> bool:
        """Whether the caller's audio is replaced by silence, and keys are kept out of the conversation."""
        return self.state is not MuteState.OFF

    def begin(self, number: int, seconds: float, now_seconds: float) -> None:
        """Mute the caller for the collection with this number, for `seconds` at most; see `confirmation`."""
        self._enter(MuteEvent.BEGIN, now_seconds)
        self._number = number
        self._collection_seconds = min(seconds, MAX_COLLECTION_SECONDS)
        self._is_confirmed = False
        if self.state is MuteState.SETTLING:
            self._until_seconds = now_seconds + MAX_SETTLING_SECONDS
        else:
            self._until_seconds = now_seconds + self._collection_seconds
        self.look(now_seconds)

    def confirmation(self) -> int | None:
        """Return the number of a collection that has begun, once; None: there is none."""
        if self.state is not MuteState.ON or self._is_confirmed:
            return None
        self._is_confirmed = True
        return self._number

    def end(self, number: int, now_seconds: float, *, abandoned: bool) -> None:
        """End the collection of this number.

        Args:
            number: number of the collection; the end of another collection has no effect.
            now_seconds: the time.
            abandoned: the caller may still be pressing keys.
        """
        if self.state not in (MuteState.ON, MuteState.SETTLING) or number != self._number:
            return
        if abandoned or self.state is MuteState.SETTLING:
            self._stray(MuteEvent.ABANDON, now_seconds, awaits_session=False)
        else:
            self._tail(MuteEvent.END, now_seconds)

    def session_lost(self, now_seconds: float) -> None:
        """Discard the keys that follow, because the session that collected them is lost."""
        if self.state in (MuteState.ON, MuteState.SETTLING):
            self._stray(MuteEvent.ABANDON, now_seconds, awaits_session=True)
        elif self.state is MuteState.STRAY:
            self._awaits_session = True

    def taken_over(self, now_seconds: float, since_seconds: float) -> None:
        """Mute the caller because the session that this dispatcher attached to was collecting keys.

        Args:
            now_seconds: the time.
            since_seconds: time since which this dispatcher gets the caller's audio.
        """
        self._stray(MuteEvent.TAKE_OVER, now_seconds, awaits_session=True, since_seconds=since_seconds)
        # The other dispatcher may have received a key just now.
        self._last_key_seconds = now_seconds

    def session_up(self) -> None:
        """Note that the next session is up."""
        self._awaits_session = False

    def key(self, now_seconds: float) -> int:
        """Note a key; return the number of the collection that it belongs to, or 0 if the key is discarded."""
        self._last_key_seconds = self._quiet_since_seconds = now_seconds
        return self._number if self.state is MuteState.ON else 0

    def look(self, now_seconds: float) -> bool:
        """Change the state if a time is over; return whether the mute is on."""
        if self.state is MuteState.OFF:
            return False
        is_late = now_seconds >= self._until_seconds
        if self.state is MuteState.ON:
            if is_late:
                self._tail(MuteEvent.TIME, now_seconds)
            return True
        if self.state is MuteState.SETTLING:
            if is_late or now_seconds - self._last_key_seconds >= SETTLE_SECONDS:
                self._enter(MuteEvent.TIME, now_seconds)
                self._until_seconds = now_seconds + self._collection_seconds
            return True
        is_tail = self.state is MuteState.TAIL
        quiet_seconds = TAIL_SECONDS if is_tail else STRAY_SECONDS
        is_quiet = now_seconds - self._quiet_since_seconds >= quiet_seconds and not self._awaits_session
        if is_late or is_quiet:
            self._enter(MuteEvent.TIME, now_seconds)
        return self.is_on

    def _tail(self, event: MuteEvent, now_seconds: float) -> None:
        self._enter(event, now_seconds)
        self._quiet_since_seconds = now_seconds
        self._until_seconds = now_seconds + MAX_TAIL_SECONDS
        self._awaits_session = False

    def _stray(
        self,
        event: MuteEvent,
        now_seconds: float,
        *,
        awaits_session: bool,
        since_seconds: float | None = None,
    ) -> None:
        self._enter(event, now_seconds if since_seconds is None else since_seconds)
        self._quiet_since_seconds = now_seconds
        self._until_seconds = now_seconds + MAX_STRAY_SECONDS
        self._awaits_session = awaits_session

    def _enter(self, event: MuteEvent, since_seconds: float) -> None:
        following = checked("caller mute", self.state, event, TRANSITIONS[self.state].get(event))
        was_on, self.state = self.is_on, following
        if self._changed is not None and was_on is not self.is_on:
            self._changed(self.is_on, since_seconds)

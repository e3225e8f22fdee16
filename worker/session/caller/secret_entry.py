"""An entry of keys for a tool: the states, their transitions, and the clocks.

    NONE ──asked──▶ WAITING ──live──▶ MUTING ──COLLECTING──▶ PROMPTING ──prompt heard, or a key──▶ ENTERING
     ▲                 │                │                       │                                     │
     └─────────────────┴────────────────┴── given up, lost ─────┴── all keys, #, time-out, lost ──────┘

WAITING: the session is not live yet. MUTING: the dispatcher has not confirmed yet that the caller's audio is
silence. The prompt waits for that. A session has one entry at a time, and a second request is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from common.transitions import checked
from worker.session.caller.digits import END_KEY
from worker.tools.entries import Entry, EntryEnding, KeyRequest

NO_SESSION: Final = "the call had no session in time: try again later"
NOT_MUTED: Final = "the dispatcher did not mute the caller in time: try again"
NOT_SAID: Final = "the prompt could not be said to the caller: try again"


class EntryState(Enum):
    """State of an entry."""

    NONE = "none"
    WAITING = "waiting"
    MUTING = "muting"
    PROMPTING = "prompting"
    ENTERING = "entering"


class EntryEvent(Enum):
    """Event that changes the state of an entry."""

    ASKED = "asked"
    LIVE = "live"
    MUTED = "muted"
    PROMPT_OVER = "prompt_over"
    ENDED = "ended"


ENTRY_TRANSITIONS: Final[dict[tuple[EntryState, EntryEvent], EntryState]] = {
    (EntryState.NONE, EntryEvent.ASKED): EntryState.WAITING,
    (EntryState.WAITING, EntryEvent.LIVE): EntryState.MUTING,
    (EntryState.WAITING, EntryEvent.ENDED): EntryState.NONE,
    (EntryState.MUTING, EntryEvent.MUTED): EntryState.PROMPTING,
    (EntryState.MUTING, EntryEvent.ENDED): EntryState.NONE,
    (EntryState.PROMPTING, EntryEvent.PROMPT_OVER): EntryState.ENTERING,
    (EntryState.PROMPTING, EntryEvent.ENDED): EntryState.NONE,
    (EntryState.ENTERING, EntryEvent.ENDED): EntryState.NONE,
}


@dataclass(frozen=True, slots=True)
class EntryLimits:
    """Maximum times of an entry.

    Attributes:
        waiting_seconds: maximum time until the session is live.
        muting_seconds: maximum time until the dispatcher has muted the caller.
        prompting_seconds: maximum time until the prompt has been heard, with the answers before it.
        entering_seconds: maximum time from the end of the prompt to the last key.
    """

    waiting_seconds: float = 10.0
    muting_seconds: float = 8.0
    prompting_seconds: float = 60.0
    entering_seconds: float = 180.0

    @property
    def muted_seconds(self) -> float:
        """The maximum time for which the caller is muted."""
        return self.muting_seconds + self.prompting_seconds + self.entering_seconds


class SecretEntry:
    """The entries of one session, one after the other.

    Attributes:
        state: state of the present entry: see the top of this file.
        number: number of the present entry, by which the dispatcher and the shell name the entry.
        limits: maximum times of each entry.
    """

    def __init__(self, limits: EntryLimits) -> None:
        self.state = EntryState.NONE
        self.number = 0
        self.limits = limits
        self._wanted = KeyRequest("", 1, 1.0)
        self._digits = ""
        self._until_seconds = 0.0
        self._next_key_seconds = 0.0

    @property
    def is_on(self) -> bool:
        """Whether the caller's keys and audio are withheld from the model."""
        return self.state not in (EntryState.NONE, EntryState.WAITING)

    @property
    def is_free(self) -> bool:
        """Whether a tool may ask for an entry."""
        return self.state is EntryState.NONE

    @property
    def prompt(self) -> str:
        """Text that the agent says to the caller; empty: nothing is said."""
        return self._wanted.prompt

    def ask(self, number: int, wanted: KeyRequest, now_seconds: float) -> None:
        """Begin an entry with this number for a tool's request."""
        self._enter(EntryEvent.ASKED, self.limits.waiting_seconds, now_seconds)
        self.number, self._wanted, self._digits = number, wanted, ""

    def live(self, now_seconds: float) -> None:
        """Wait for the dispatcher, which mutes the caller: the session is live."""
        self._enter(EntryEvent.LIVE, self.limits.muting_seconds, now_seconds)

    def muted(self, now_seconds: float) -> None:
        """Wait for the end of the prompt: the caller is muted."""
        self._enter(EntryEvent.MUTED, self.limits.prompting_seconds, now_seconds)

    def prompt_over(self, now_seconds: float) -> None:
        """Begin the time for the first key: the caller has heard the prompt, or interrupts it."""
        self._enter(EntryEvent.PROMPT_OVER, self.limits.entering_seconds, now_seconds)
        self._next_key_seconds = now_seconds + self._wanted.timeout_seconds

    def press(self, digit: str, now_seconds: float) -> Entry | None:
        """Take a key; return the entry if the key ends it."""
        if digit == END_KEY:
            return self.end(EntryEnding.END_KEY)
        self._digits += digit
        self._next_key_seconds = now_seconds + self._wanted.timeout_seconds
        return self.end(EntryEnding.COUNT) if len(self._digits) >= self._wanted.count else None

    def tick(self, now_seconds: float) -> Entry | None:
        """Return the entry if a maximum time has ended it."""
        if self.state is EntryState.NONE:
            return None
        is_late = now_seconds >= self._until_seconds
        match self.state:
            case EntryState.ENTERING:
                if is_late or now_seconds >= self._next_key_seconds:
                    return self.end(EntryEnding.TIMEOUT)
            case EntryState.WAITING if is_late:
                return self.end(EntryEnding.LOST, NO_SESSION)
            case EntryState.MUTING if is_late:
                return self.end(EntryEnding.LOST, NOT_MUTED)
            case EntryState.PROMPTING if is_late:
                return self.end(EntryEnding.LOST, NOT_SAID)
        return None

    def end(self, ending: EntryEnding, message: str = "") -> Entry:
        """End and return the entry. A lost entry (`EntryEnding.LOST`) has no keys."""
        self._advance(EntryEvent.ENDED)
        digits, self._digits = self._digits, ""
        return Entry(ending, "" if ending is EntryEnding.LOST else digits, message)

    def _advance(self, event: EntryEvent) -> None:
        self.state = checked("secret entry", self.state, event, ENTRY_TRANSITIONS.get((self.state, event)))

    def _enter(self, event: EntryEvent, seconds: float, now_seconds: float) -> None:
        self._advance(event)
        self._until_seconds = now_seconds + seconds

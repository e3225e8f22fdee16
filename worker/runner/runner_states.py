"""The states of a session's shell, and all transitions between them: two machines that run side by side.

The shell's own life. Whether there is a connection is a state of the session (`worker/session/states.py`).

    PREPARING ──session made──▶ RUNNING ──released──▶ RESTING ──ended──▶ ENDED
        └──────────ended───────────┴──────────────────────────────────────▲

And whether its dispatcher is there. A stall of the event loop suspends the shell: the call may be elsewhere now.

    ATTACHED ──link lost──▶ DETACHED ──stalled──▶ SUSPENDED ──confirmed by Redis──▶ DETACHED
        └──stalled──▶ UNCONFIRMED ──link lost──▶ UNCONFIRMED_DETACHED

A dispatcher that attaches or resumes leads from each of these states back to ATTACHED.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from common.transitions import checked


class RunnerState(Enum):
    """How far a shell is."""

    PREPARING = "preparing"
    """Its session's configuration is put together, or the call's memory is awaited."""
    RUNNING = "running"
    RESTING = "resting"
    """It has released its call, and keeps its memory and tools until another session has the call."""
    ENDED = "ended"


class RunnerEvent(Enum):
    """What changes the state of a shell."""

    SESSION_MADE = "session_made"
    RELEASED = "released"
    ENDED = "ended"


RUNNER_TRANSITIONS: Final[dict[tuple[RunnerState, RunnerEvent], RunnerState]] = {
    (RunnerState.PREPARING, RunnerEvent.SESSION_MADE): RunnerState.RUNNING,
    (RunnerState.PREPARING, RunnerEvent.ENDED): RunnerState.ENDED,
    (RunnerState.RUNNING, RunnerEvent.RELEASED): RunnerState.RESTING,
    (RunnerState.RUNNING, RunnerEvent.ENDED): RunnerState.ENDED,
    (RunnerState.RESTING, RunnerEvent.ENDED): RunnerState.ENDED,
}


def next_runner_state(state: RunnerState, event: RunnerEvent) -> RunnerState:
    """Return the state that follows.

    Raises:
        IllegalTransition: the table has no such transition.
    """
    return checked("session runner", state, event, RUNNER_TRANSITIONS.get((state, event)))


class AttachmentState(Enum):
    """Whether a call's dispatcher is there."""

    ATTACHED = "attached"
    DETACHED = "detached"
    UNCONFIRMED = "unconfirmed"
    """The event loop has stalled, and the dispatcher has not confirmed since that it has the call."""
    UNCONFIRMED_DETACHED = "unconfirmed_detached"
    """The link was lost as well."""
    SUSPENDED = "suspended"
    """The event loop has stalled while there was no dispatcher: Redis knows whether the call is elsewhere."""


class AttachmentEvent(Enum):
    """What changes it."""

    LINK_LOST = "link_lost"
    STALLED = "stalled"
    ATTACHED = "attached"
    CONFIRMED = "confirmed"
    """Redis names no other holder of a call without a dispatcher."""


# Links, stalls and Redis decide: each state has a transition for each event.
ATTACHMENT_TRANSITIONS: Final[dict[tuple[AttachmentState, AttachmentEvent], AttachmentState]] = {
    (AttachmentState.ATTACHED, AttachmentEvent.LINK_LOST): AttachmentState.DETACHED,
    (AttachmentState.ATTACHED, AttachmentEvent.STALLED): AttachmentState.UNCONFIRMED,
    (AttachmentState.ATTACHED, AttachmentEvent.ATTACHED): AttachmentState.ATTACHED,
    (AttachmentState.ATTACHED, AttachmentEvent.CONFIRMED): AttachmentState.ATTACHED,
    (AttachmentState.DETACHED, AttachmentEvent.LINK_LOST): AttachmentState.DETACHED,
    (AttachmentState.DETACHED, AttachmentEvent.STALLED): AttachmentState.SUSPENDED,
    (AttachmentState.DETACHED, AttachmentEvent.ATTACHED): AttachmentState.ATTACHED,
    (AttachmentState.DETACHED, AttachmentEvent.CONFIRMED): AttachmentState.DETACHED,
    (AttachmentState.UNCONFIRMED, AttachmentEvent.LINK_LOST): AttachmentState.UNCONFIRMED_DETACHED,
    (AttachmentState.UNCONFIRMED, AttachmentEvent.STALLED): AttachmentState.UNCONFIRMED,
    (AttachmentState.UNCONFIRMED, AttachmentEvent.ATTACHED): AttachmentState.ATTACHED,
    (AttachmentState.UNCONFIRMED, AttachmentEvent.CONFIRMED): AttachmentState.UNCONFIRMED,
    (AttachmentState.UNCONFIRMED_DETACHED, AttachmentEvent.LINK_LOST): AttachmentState.UNCONFIRMED_DETACHED,
    (AttachmentState.UNCONFIRMED_DETACHED, AttachmentEvent.STALLED): AttachmentState.UNCONFIRMED_DETACHED,
    (AttachmentState.UNCONFIRMED_DETACHED, AttachmentEvent.ATTACHED): AttachmentState.ATTACHED,
    (AttachmentState.UNCONFIRMED_DETACHED, AttachmentEvent.CONFIRMED): AttachmentState.UNCONFIRMED_DETACHED,
    (AttachmentState.SUSPENDED, AttachmentEvent.LINK_LOST): AttachmentState.SUSPENDED,
    (AttachmentState.SUSPENDED, AttachmentEvent.STALLED): AttachmentState.SUSPENDED,
    (AttachmentState.SUSPENDED, AttachmentEvent.ATTACHED): AttachmentState.ATTACHED,
    (AttachmentState.SUSPENDED, AttachmentEvent.CONFIRMED): AttachmentState.DETACHED,
}


class Attachment:
    """The attachment of one call to its dispatcher.

    Attributes:
        state: see the module.
    """

    def __init__(self) -> None:
        self.state = AttachmentState.ATTACHED
        self._detached_seconds = 0.0

    @property
    def is_detached(self) -> bool:
        """Whether only this worker knows of the call now."""
        return self.state in (AttachmentState.DETACHED, AttachmentState.SUSPENDED)

    @property
    def is_suspended(self) -> bool:
        """Whether nothing may be done for the call until its holder is known."""
        return self.state not in (AttachmentState.ATTACHED, AttachmentState.DETACHED)

    def take(self, event: AttachmentEvent, now_seconds: float) -> bool:
        """Take an event; returns whether it ends a suspension."""
        was_suspended = self.is_suspended
        if event is AttachmentEvent.LINK_LOST:
            self._detached_seconds = now_seconds
        self.state = ATTACHMENT_TRANSITIONS[self.state, event]
        return was_suspended and not self.is_suspended

    def is_overdue(self, now_seconds: float, *, kept_seconds: float, confirmed_within_seconds: float) -> bool:
        """Whether the dispatcher has been away for too long.

        Args:
            now_seconds: the time.
            kept_seconds: how long a call without a dispatcher is kept.
            confirmed_within_seconds: how long a call is kept after a stall that its dispatcher has to confirm.
        """
        away_seconds = now_seconds - self._detached_seconds
        if self.state is AttachmentState.UNCONFIRMED_DETACHED:
            return away_seconds >= confirmed_within_seconds
        return self.is_detached and away_seconds >= kept_seconds

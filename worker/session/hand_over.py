"""The hand-over of a call to another session: requested, permitted by the dispatcher, done at a quiet moment.

    HOLDING ──move, or RELEASE that is revoked──▶ ASKED ◀──revoked, or another dispatcher──┐
       └───────────────RELEASE──────────────────────┴──RELEASE──▶ PERMITTED ───────────────┘

The session releases the call at its deadline at the latest; from PERMITTED also at a quiet moment.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from common.link import wire
from common.link.wire import Reason
from common.transitions import checked
from worker.session.lifecycle import Lifecycle
from worker.session.parts import SessionParts
from worker.session.states import State

# Part of the allowed time after which a session releases the call by itself: 59 of 55 minutes.
FORCE_AT: Final = 59 / 55
# Part of a session's limit (`expires_at`) after which it is replaced: 55 of 60 minutes.
ROLLOVER_PART: Final = 55 / 60
# Minimum allowed time, in which the other session can be opened.
ROLLOVER_LEAST_SECONDS: Final = 5.0


class HandOverState(Enum):
    """State of a hand-over."""

    HOLDING = "holding"
    ASKED = "asked"
    PERMITTED = "permitted"


class HandOverEvent(Enum):
    """Event that changes the state of a hand-over."""

    MOVE = "move"
    RELEASE = "release"
    REVOKE = "revoke"
    ANOTHER_DISPATCHER = "another_dispatcher"


HAND_OVER_TRANSITIONS: Final[dict[tuple[HandOverState, HandOverEvent], HandOverState]] = {
    (HandOverState.HOLDING, HandOverEvent.MOVE): HandOverState.ASKED,
    (HandOverState.HOLDING, HandOverEvent.RELEASE): HandOverState.PERMITTED,
    (HandOverState.HOLDING, HandOverEvent.REVOKE): HandOverState.ASKED,
    (HandOverState.HOLDING, HandOverEvent.ANOTHER_DISPATCHER): HandOverState.HOLDING,
    (HandOverState.ASKED, HandOverEvent.MOVE): HandOverState.ASKED,
    (HandOverState.ASKED, HandOverEvent.RELEASE): HandOverState.PERMITTED,
    (HandOverState.ASKED, HandOverEvent.REVOKE): HandOverState.ASKED,
    (HandOverState.ASKED, HandOverEvent.ANOTHER_DISPATCHER): HandOverState.ASKED,
    (HandOverState.PERMITTED, HandOverEvent.MOVE): HandOverState.PERMITTED,
    (HandOverState.PERMITTED, HandOverEvent.RELEASE): HandOverState.PERMITTED,
    (HandOverState.PERMITTED, HandOverEvent.REVOKE): HandOverState.ASKED,
    # The standby session and the permission belonged to the former dispatcher.
    (HandOverState.PERMITTED, HandOverEvent.ANOTHER_DISPATCHER): HandOverState.ASKED,
}


class HandOver:
    """The hand-over of one session's call.

    Attributes:
        state: state of the hand-over.
        is_detached: no dispatcher has a link to the session, so none could move the call.
    """

    def __init__(self, parts: SessionParts, life: Lifecycle) -> None:
        self.state = HandOverState.HOLDING
        self.is_detached = False
        self._parts = parts
        self._life = life
        self._reason = ""
        self._deadline_seconds = float("inf")
        self._rollover_seconds = parts.config.rollover_seconds

    def move(self, reason: str, seconds: float, now_seconds: float) -> None:
        """Ask for another session within a time; release the call without one after that time.

        A drain replaces a rollover that waits, because this worker ends sooner than the session.
        """
        if self._life.has_ended or self._reason in (reason, Reason.DRAIN):
            return
        self._deadline_seconds = min(now_seconds + seconds, self._deadline_seconds)
        self._advance(HandOverEvent.MOVE)
        self._ask(reason, seconds)

    def permit(self, release: wire.Release, now_seconds: float) -> None:
        """Take the dispatcher's permission to release the call, or its revocation."""
        self._deadline_seconds = min(now_seconds + release.seconds, self._deadline_seconds)
        self._advance(HandOverEvent.REVOKE if release.revoked else HandOverEvent.RELEASE)

    def attached(self) -> None:
        """Forget the permission of a lost dispatcher."""
        self.is_detached = False
        self._advance(HandOverEvent.ANOTHER_DISPATCHER)

    def ask_again(self, now_seconds: float) -> None:
        """Ask another dispatcher for the pending move."""
        if self._reason:
            self._ask(self._reason, self._deadline_seconds - now_seconds)

    def session_created(self, lasts_seconds: object) -> None:
        """Take the session's maximum age that the API reports: 60 minutes at OpenAI, 30 at xAI."""
        if isinstance(lasts_seconds, float) and lasts_seconds > 0:
            self._rollover_seconds = min(self._parts.config.rollover_seconds, lasts_seconds * ROLLOVER_PART)

    def roll_over(self, opened_seconds: float, now_seconds: float) -> None:
        """Ask for another session before the API ends this one, by its age since `opened_seconds`."""
        age_seconds = now_seconds - opened_seconds
        allowed_seconds = self._rollover_seconds * self._parts.config.rollover_part
        if age_seconds >= allowed_seconds and not self._reason:
            seconds = max(ROLLOVER_LEAST_SECONDS, allowed_seconds * FORCE_AT - age_seconds)
            self.move(Reason.ROLLOVER, seconds, now_seconds)

    def proceed(self, now_seconds: float) -> None:
        """Release the call at a quiet moment, if permitted, and at the latest at the deadline."""
        if self.state is HandOverState.HOLDING or self.is_detached or self._life.state is State.ENDED:
            return
        quiet = self.state is HandOverState.PERMITTED and self._parts.is_quiet(now_seconds)
        if quiet or now_seconds >= self._deadline_seconds:
            self._life.release(self._reason or Reason.DRAIN, "another session goes on")

    def _ask(self, reason: str, seconds: float) -> None:
        self._reason = reason
        self._parts.out.record(wire.Move(reason, max(0.0, seconds)))

    def _advance(self, event: HandOverEvent) -> None:
        self.state = checked("hand-over", self.state, event, HAND_OVER_TRANSITIONS.get((self.state, event)))

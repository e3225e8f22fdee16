"""The states of a session, and all transitions between them.

    CONNECTING ──connected──▶ CONFIGURING ──session set up──┬──────────▶ LIVE ──┐
      │  ▲ │ ▲                    │  │                      └▶ STANDBY ─▶ │      ├──▶ ENDED
      │  └─┘ └──── no session ────┘  │                            │             │
      │   connect failed: retried as long as that can help        │             │
      └──────────────────────────────┴────────── any end ─────────┴─────────────┘

The events are the session's own decisions. An event of a peer (the Realtime API, the dispatcher) is never illegal.
Its handler decides by the state, and an ended session ignores it.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from common.transitions import checked


class State(Enum):
    """State of a session."""

    CONNECTING = "connecting"
    CONFIGURING = "configuring"
    STANDBY = "standby"
    LIVE = "live"
    ENDED = "ended"


class SessionEvent(Enum):
    """A decision that may change the state of a session."""

    CONNECTED = "connected"
    CONNECT_FAILED = "connect_failed"
    SESSION_FAILED = "session_failed"
    """The connection was lost, or the API did not answer, before the session was set up."""
    SET_UP = "set_up"
    SET_UP_TO_WAIT = "set_up_to_wait"
    RESUMED = "resumed"
    RELEASED = "released"
    ENDED = "ended"


TRANSITIONS: Final[dict[tuple[State, SessionEvent], State]] = {
    (State.CONNECTING, SessionEvent.CONNECTED): State.CONFIGURING,
    (State.CONNECTING, SessionEvent.CONNECT_FAILED): State.CONNECTING,
    (State.CONNECTING, SessionEvent.RELEASED): State.ENDED,
    (State.CONNECTING, SessionEvent.ENDED): State.ENDED,
    (State.CONFIGURING, SessionEvent.SESSION_FAILED): State.CONNECTING,
    (State.CONFIGURING, SessionEvent.SET_UP): State.LIVE,
    (State.CONFIGURING, SessionEvent.SET_UP_TO_WAIT): State.STANDBY,
    (State.CONFIGURING, SessionEvent.RELEASED): State.ENDED,
    (State.CONFIGURING, SessionEvent.ENDED): State.ENDED,
    (State.STANDBY, SessionEvent.RESUMED): State.LIVE,
    (State.STANDBY, SessionEvent.RELEASED): State.ENDED,
    (State.STANDBY, SessionEvent.ENDED): State.ENDED,
    (State.LIVE, SessionEvent.RELEASED): State.ENDED,
    (State.LIVE, SessionEvent.ENDED): State.ENDED,
}


def next_state(state: State, event: SessionEvent) -> State:
    """Return the state that follows.

    Raises:
        IllegalTransition: the table has no such transition.
    """
    return checked("session", state, event, TRANSITIONS.get((state, event)))

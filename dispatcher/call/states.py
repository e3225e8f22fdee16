"""States of a call in the dispatcher, and the table of its transitions.

    AWAITING_INIT ──init──▶ PLACING ──placed──▶ OPENING ──OPENED──▶ CONNECTING ──READY──▶ LIVE
          │                  ▲ ▲ │                 │                    │                  │
          │                  │ └─┴──── REFUSED ────┤                    │                  │
          │                  └──── session lost ───┴────────────────────┴──────────────────┤
          │                      ├──────── it cannot go on ──────────────────▶ PARTING ────┤
          └──────────────────────┴──────── any end ────────────────────────────────────────┴──▶ ENDED

If a session stands by when the present one is lost, the call continues in it, as OPENING or CONNECTING.
`recovery.py` says whether a call has lost a session. `hand_over.py` moves a call from a session that still works.

Records of a worker are never illegal transitions. OPENED, READY and REFUSED in a state without a transition for
them are protocol errors (`LinkProtocolError`). The call then ends as failed, and is counted as such. All other
records are valid in every state.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from common.errors import LinkProtocolError
from common.transitions import checked


class State(StrEnum):
    """State of a call; the value is what `GET /calls` shows."""

    AWAITING_INIT = "awaiting_init"
    PLACING = "placing"
    OPENING = "opening"
    CONNECTING = "connecting"
    LIVE = "live"
    PARTING = "parting"
    ENDED = "ended"


class Event(StrEnum):
    """Event that changes the state of a call; names in capitals are records of a worker."""

    INIT = "init"
    PLACE_AGAIN = "place again"
    PLACED = "placed"
    OPENED = "OPENED"
    READY = "READY"
    REFUSED = "REFUSED"
    SESSION_LOST = "session lost"
    STANDBY_OPENS = "a session that is being opened takes over"
    STANDBY_CONNECTS = "a session that stands by takes over"
    CANNOT_GO_ON = "cannot go on"
    END = "end"


WITHOUT_WORKER: Final = frozenset({State.PLACING, State.OPENING, State.PARTING})
"""States in which no worker has the call: its dispatcher carries out the calls API's commands."""

_SESSION_ENDS: Final = {
    Event.SESSION_LOST: State.PLACING,
    Event.STANDBY_OPENS: State.OPENING,
    Event.STANDBY_CONNECTS: State.CONNECTING,
    Event.CANNOT_GO_ON: State.PARTING,
    Event.END: State.ENDED,
}

TRANSITIONS: Final[dict[State, dict[Event, State]]] = {
    State.AWAITING_INIT: {Event.INIT: State.PLACING, Event.END: State.ENDED},
    State.PLACING: {
        Event.PLACE_AGAIN: State.PLACING,
        Event.PLACED: State.OPENING,
        Event.CANNOT_GO_ON: State.PARTING,
        Event.END: State.ENDED,
    },
    State.OPENING: {Event.OPENED: State.CONNECTING, Event.REFUSED: State.PLACING, **_SESSION_ENDS},
    State.CONNECTING: {Event.READY: State.LIVE, **_SESSION_ENDS},
    State.LIVE: _SESSION_ENDS,
    State.PARTING: {Event.END: State.ENDED},
    State.ENDED: {},
}

_OF_WORKERS: Final = frozenset({Event.OPENED, Event.READY, Event.REFUSED})


def transition(state: State, event: Event) -> State:
    """Return the state after an event.

    Raises:
        LinkProtocolError: a worker sent a record that is invalid in this state.
        IllegalTransition: the event must not happen in this state, so this service has a fault.
    """
    following = TRANSITIONS[state].get(event)
    if following is None and event in _OF_WORKERS:
        raise LinkProtocolError(f"{event} in state {state}")
    return checked("call", state, event, following)

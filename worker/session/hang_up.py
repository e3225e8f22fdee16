"""A hang-up that a session wants: why, for people and for the call's record."""

from __future__ import annotations

from dataclasses import dataclass

from common.link.wire import EndReason


@dataclass(frozen=True, slots=True)
class HangUp:
    """Why a session wants the call hung up.

    Attributes:
        text: for people.
        reason: for the call's record.
    """

    text: str
    reason: EndReason


ORDERED_BEFORE = HangUp("an earlier session ordered it", EndReason.AGENT_HUNG_UP)
"""Of a hang-up that a session at another worker ordered. The dispatcher knows the reason from that order."""

"""The reason of a hang-up that a session requests: for people, and for the call's record."""

from __future__ import annotations

from dataclasses import dataclass

from common.link.wire import EndReason


@dataclass(frozen=True, slots=True)
class HangUp:
    """Reason of a hang-up.

    Attributes:
        text: reason for people.
        reason: reason in the call's record.
    """

    text: str
    reason: EndReason


ORDERED_BEFORE = HangUp("an earlier session ordered it", EndReason.AGENT_HUNG_UP)
"""Reason of a hang-up that a session at another worker has requested. The dispatcher knows the real reason."""

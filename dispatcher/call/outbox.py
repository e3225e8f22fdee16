"""Where the parts of a call put what they want done."""

from __future__ import annotations

from common.link import wire
from dispatcher.call.actions import Action, Report, Seen, ToWorker
from dispatcher.call.leg import Leg


class Outbox:
    """The actions of one call, in order; the shell takes and clears them.

    Attributes:
        actions: what is to be done.
    """

    def __init__(self) -> None:
        self.actions: list[Action] = []

    def record(self, leg: Leg, record: wire.Control) -> None:
        """A record for a leg's worker."""
        self.encoded(leg, wire.encode(record, leg.channel))

    def encoded(self, leg: Leg, record: bytes) -> None:
        """The same, encoded already; while the leg is broken its stream keeps it."""
        leg.stream.sending(record)
        if not leg.is_broken:
            self.actions.append(ToWorker(leg, record))

    def report(self, seen: Seen, value: float = 1.0, label: str = "") -> None:
        """Something to count or measure."""
        self.actions.append(Report(seen, value, label))

"""Where the parts of a call put what they want done."""

from __future__ import annotations

from common.link import wire
from dispatcher.call.actions import Action, Measurement, Metric, ToWorker
from dispatcher.call.assignment import Assignment


class ActionQueue:
    """The actions of one call, in order; the shell takes and clears them.

    Attributes:
        actions: what is to be done.
    """

    def __init__(self) -> None:
        self.actions: list[Action] = []

    def record(self, assignment: Assignment, record: wire.Control) -> None:
        """A record for a leg's worker."""
        self.encoded(assignment, wire.encode(record, assignment.channel))

    def encoded(self, assignment: Assignment, record: bytes) -> None:
        """The same, encoded already; while the leg is broken its stream keeps it."""
        assignment.stream.sending(record)
        if not assignment.is_broken:
            self.actions.append(ToWorker(assignment, record))

    def report(self, seen: Metric, value: float = 1.0, label: str = "") -> None:
        """Something to count or measure."""
        self.actions.append(Measurement(seen, value, label))

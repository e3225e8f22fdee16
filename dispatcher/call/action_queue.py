"""Queue of the actions of one call."""

from __future__ import annotations

from common.link import wire
from dispatcher.call.actions import Action, Measurement, Metric, ToWorker
from dispatcher.call.assignment import Assignment


class ActionQueue:
    """Actions of one call, in order; the shell takes and clears them.

    Attributes:
        actions: the actions that the shell has not taken.
    """

    def __init__(self) -> None:
        self.actions: list[Action] = []

    def record(self, assignment: Assignment, record: wire.Record) -> None:
        """Send a record to an assignment's worker."""
        self.actions.append(ToWorker(assignment, record))

    def report(self, seen: Metric, value: float = 1.0, label: str = "") -> None:
        """Count or measure something."""
        self.actions.append(Measurement(seen, value, label))

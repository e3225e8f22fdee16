"""Queue of the actions of one session."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from common.link import wire
from worker.session import truncation
from worker.session.actions import Action, Happened, Measurement, Metric, ToDispatcher, ToUpstream


class ActionQueue:
    """Actions of one session, in order. The shell takes and clears them.

    Attributes:
        actions: actions that the shell has not taken.
        uuid: id of the call.
    """

    def __init__(self, uuid: str = "") -> None:
        self.actions: list[Action] = []
        self.uuid = uuid

    def upstream(self, event: dict[str, Any]) -> None:
        """Send an event of the GA dialect to the API. The caller must not change the event afterwards."""
        self.actions.append(ToUpstream(event))

    def dispatcher(self, records: Iterable[wire.Record]) -> None:
        """Send records to the dispatcher."""
        self.actions.extend(ToDispatcher(record) for record in records)

    def record(self, record: wire.Record) -> None:
        """Send one record to the dispatcher."""
        self.actions.append(ToDispatcher(record))

    def report(self, seen: Metric, value: float = 1.0, label: str = "") -> None:
        """Count or measure something."""
        self.actions.append(Measurement(seen, value, label))

    def happened(self, kind: str, **fields: Any) -> None:
        """Show an event to the watchers of the call."""
        shown = {
            name: truncation.truncate(value) if isinstance(value, str) else value for name, value in fields.items()
        }
        self.actions.append(Happened({"type": kind, **shown}))

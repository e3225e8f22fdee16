"""Where the parts of a session put what they want done."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from worker.actions import Action, Happened, Report, Seen, ToDispatcher, ToUpstream
from worker.dialect import Dialect


class Outbox:
    """The actions of one session, in order; the shell takes and clears them."""

    def __init__(self, dialect: Dialect) -> None:
        self.actions: list[Action] = []
        self._dialect = dialect

    def upstream(self, event: dict[str, Any]) -> None:
        """An event for the API, in the GA dialect."""
        self.actions.append(ToUpstream(orjson.dumps(self._dialect.to_wire(event))))

    def dispatcher(self, records: Iterable[bytes]) -> None:
        """Records for the dispatcher."""
        self.actions.extend(ToDispatcher(record) for record in records)

    def report(self, seen: Seen, value: float = 1.0, label: str = "") -> None:
        """Something to count or measure."""
        self.actions.append(Report(seen, value, label))

    def happened(self, kind: str, **fields: str) -> None:
        """Something for whoever watches the call."""
        self.actions.append(Happened({"type": kind, **fields}))

"""Where the parts of a session put what they want done."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from common import link
from worker.actions import Action, Happened, Report, Seen, ToDispatcher, ToUpstream
from worker.dialect import Dialect


class Outbox:
    """The actions of one session, in order; the shell takes and clears them.

    Attributes:
        actions: what is to be done.
        channel: the call's channel on its link.
    """

    def __init__(self, dialect: Dialect, channel: int) -> None:
        self.actions: list[Action] = []
        self.channel = channel
        self._dialect = dialect

    def upstream(self, event: dict[str, Any]) -> None:
        """An event for the API, in the GA dialect."""
        self.actions.append(ToUpstream(orjson.dumps(self._dialect.to_wire(event))))

    def dispatcher(self, records: Iterable[bytes]) -> None:
        """Records for the dispatcher."""
        self.actions.extend(ToDispatcher(record) for record in records)

    def record(self, record: link.Control) -> None:
        """One record for the dispatcher."""
        self.actions.append(ToDispatcher(link.encode(record, self.channel)))

    def report(self, seen: Seen, value: float = 1.0, label: str = "") -> None:
        """Something to count or measure."""
        self.actions.append(Report(seen, value, label))

    def happened(self, kind: str, **fields: str) -> None:
        """Something for whoever watches the call."""
        self.actions.append(Happened({"type": kind, **fields}))

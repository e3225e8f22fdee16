"""Where the parts of a session put what they want done."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson
import structlog

from common.link import wire
from worker.realtime.dialect import Dialect
from worker.session import truncation
from worker.session.actions import Action, Happened, Measurement, Metric, ToDispatcher, ToUpstream


class ActionQueue:
    """The actions of one session, in order; the shell takes and clears them.

    Attributes:
        actions: what is to be done.
        channel: the call's channel on its link.
        uuid: of the call.
    """

    def __init__(self, dialect: Dialect, channel: int, uuid: str = "") -> None:
        self.actions: list[Action] = []
        self.channel = channel
        self.uuid = uuid
        self._dialect = dialect
        self._log = structlog.get_logger().bind(uuid=uuid)

    def upstream(self, event: dict[str, Any]) -> None:
        """An event for the API, in the GA dialect."""
        self.actions.append(ToUpstream(orjson.dumps(self._dialect.to_wire(event))))

    def dispatcher(self, records: Iterable[bytes]) -> None:
        """Records for the dispatcher."""
        self.actions.extend(ToDispatcher(record) for record in records)

    def record(self, record: wire.Control) -> None:
        """One record for the dispatcher; what says too much for a message is cut."""
        encoded, shortened = truncation.encoded(record, self.channel)
        if shortened:
            self._log.warning("record too long", reason=shortened)
        self.actions.append(ToDispatcher(encoded))

    def report(self, seen: Metric, value: float = 1.0, label: str = "") -> None:
        """Something to count or measure."""
        self.actions.append(Measurement(seen, value, label))

    def happened(self, kind: str, **fields: Any) -> None:
        """Something for whoever watches the call."""
        shown = {
            name: truncation.cut(value) if isinstance(value, str) else value for name, value in fields.items()
        }
        self.actions.append(Happened({"type": kind, **shown}))

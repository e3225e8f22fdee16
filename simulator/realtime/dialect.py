"""What differs between the dialects of the Realtime API. A session works in the GA dialect alone.

A dialect checks client events and reads them into GA's shape, and writes GA's server events as its own clients
expect them. This is GA itself; `realtime_beta` and `realtime_xai` are the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from simulator.realtime.requests import CLIENT_EVENTS, check_client_event
from simulator.realtime.schema import Check

Event = dict[str, Any]
Content = dict[str, Any]


class Dialect:
    """The GA dialect. There is one for each session.

    Attributes:
        opening: the events that a session begins with.
        defaults: what its session object begins with, instead of GA's.
    """

    opening: ClassVar[tuple[str, ...]] = ("session.created", "conversation.created")
    defaults: ClassVar[Content] = {}
    _shapes: ClassVar[Mapping[str, Check]] = CLIENT_EVENTS

    def check(self, event: Any) -> str:
        """Check a decoded client event; returns its type.

        Raises:
            RequestError: it is not what this dialect has.
        """
        return check_client_event(event, self._shapes)

    def read(self, event: Event) -> Event:
        """A client event that has been checked, in GA's shape. The one given is not changed."""
        return event

    def write(self, kind: str, content: Content) -> Iterable[tuple[str, Content]]:
        """A server event of GA (type and content) as the events that are sent. The one given is not changed."""
        return ((kind, content),)

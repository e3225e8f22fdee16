"""The GA dialect, and the interface of the other dialects of the Realtime API.

A session works in the GA dialect alone. A dialect checks client events and reads them into GA's shape. It also
writes GA's server events as its own clients expect them. The other dialects are in `beta.py` and `xai.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from simulator.realtime.requests import CLIENT_EVENTS, check_client_event
from simulator.realtime.schema import Check

Event = dict[str, Any]
Content = dict[str, Any]


class Dialect:
    """The GA dialect of one session.

    Attributes:
        opening: types of the first events of a session.
        defaults: fields that replace GA's defaults of the session object.
    """

    opening: ClassVar[tuple[str, ...]] = ("session.created", "conversation.created")
    defaults: ClassVar[Content] = {}
    _shapes: ClassVar[Mapping[str, Check]] = CLIENT_EVENTS

    def check(self, event: Any) -> str:
        """Check a decoded client event and return its type.

        Raises:
            RequestError: this dialect does not have such an event.
        """
        return check_client_event(event, self._shapes)

    def read(self, event: Event) -> Event:
        """Return a checked client event in GA's shape; the given event is not changed."""
        return event

    def write(self, kind: str, content: Content) -> Iterable[tuple[str, Content]]:
        """Return the events to send for a server event of GA; the given content is not changed."""
        return ((kind, content),)

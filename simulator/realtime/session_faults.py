"""Faults that wait for an event of a session."""

from __future__ import annotations

import enum
import math
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from simulator.realtime.ending import Ending
from simulator.realtime.garbling import Garbling
from simulator.realtime.quirks import Quirk

T = TypeVar("T")

MAX_PENDING = 1000
"""Maximum number of pending faults."""

# Keys of faults that depend on no event type.
_ANY = ""


class EventId(enum.StrEnum):
    """The `event_id` in an `error` event that refuses a client event."""

    ECHO = "echo"
    """The client event's id."""
    NULL = "null"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Rejection:
    """An `error` event in place of the answer to a client event.

    Attributes:
        kind: the error's `type`.
        param: field that the error names.
    """

    kind: str
    code: str | None
    message: str
    param: str | None = None
    event_id: EventId = EventId.ECHO

    def error(self, event_id: str | None) -> dict[str, Any]:
        """Return the `error` object of the event that answers a client event with this id."""
        error = {"type": self.kind, "code": self.code, "message": self.message, "param": self.param}
        if self.event_id is EventId.ABSENT:
            return error
        return {**error, "event_id": event_id if self.event_id is EventId.ECHO else None}


@dataclass(slots=True)
class Pending(Generic[T]):
    """Pending faults of one kind, by the event type that triggers them."""

    by_type: dict[str, deque[T]] = field(default_factory=dict)

    def add(self, fault: T, times: int, event_type: str = _ANY) -> None:
        """Add a fault this many times; those above `MAX_PENDING` are ignored."""
        queue = self.by_type.setdefault(event_type, deque(maxlen=MAX_PENDING))
        queue.extend([fault] * min(times, MAX_PENDING))

    def take(self, event_type: str = _ANY) -> T | None:
        """Return and remove the next fault; None: no fault is pending."""
        if not self.by_type or event_type not in self.by_type:
            return None
        queue = self.by_type[event_type]
        fault = queue.popleft()
        if not queue:
            del self.by_type[event_type]
        return fault

    def __bool__(self) -> bool:
        return bool(self.by_type)


@dataclass(slots=True)
class Outage:
    """A time in which each response fails.

    Attributes:
        until_seconds: end of the outage on the monotonic clock.
        ending: end of the responses.
    """

    until_seconds: float = -math.inf
    ending: Ending = field(default_factory=Ending)


@dataclass(slots=True)
class SessionFaults:
    """Faults of one session, then those for any session (`shared`).

    Attributes:
        ignored: number of client events to ignore, by type.
        rejections: `error` events in place of answers to client events, by type.
        delays: seconds until a client event is processed, by type.
        endings: ends of the next responses.
        late_responses: seconds until the next responses are created.
        late_deltas: number of audio deltas sent after the next cancelled response.
        lost_events: number of server events not to send, by type.
        garblings: damage to server events, by type.
        endless_speech: number of the caller's speeches whose end is not reported.
        overlaps: number of responses with function calls that the next response overlaps.
        rate_limits: limits for the next `rate_limits.updated`.
        unread_fields: fields that `session.update` does not change, as paths with dots.
        quirks: lasting deviations from OpenAI's events.
        context_limit_tokens: input tokens above which a response fails.
        outage: outage of the whole service.
    """

    ignored: Counter[str] = field(default_factory=Counter)
    rejections: Pending[Rejection] = field(default_factory=Pending)
    delays: Pending[float] = field(default_factory=Pending)
    endings: Pending[Ending] = field(default_factory=Pending)
    late_responses: Pending[float] = field(default_factory=Pending)
    late_deltas: int = 0
    lost_events: Counter[str] = field(default_factory=Counter)
    garblings: Pending[Garbling] = field(default_factory=Pending)
    endless_speech: int = 0
    overlaps: int = 0
    rate_limits: Pending[dict[str, Any]] = field(default_factory=Pending)
    unread_fields: set[str] = field(default_factory=set)
    quirks: set[Quirk] = field(default_factory=set)
    context_limit_tokens: int | None = None
    outage: Outage = field(default_factory=Outage)
    shared: SessionFaults | None = None

    @classmethod
    def of_new_session(cls, shared: SessionFaults) -> SessionFaults:
        """Return a new session's faults; it keeps today's quirks and unread fields as its own."""
        return cls(quirks=set(shared.quirks), unread_fields=set(shared.unread_fields), shared=shared)

    def ignores(self, event_type: str) -> bool:
        """Tell whether to ignore this client event, and count it."""
        if _counted_down(self.ignored, event_type):
            return True
        return self.shared is not None and self.shared.ignores(event_type)

    def take_rejection(self, event_type: str) -> Rejection | None:
        """Return the error with which to answer this client event."""
        return self.rejections.take(event_type) or (
            self.shared.take_rejection(event_type) if self.shared else None
        )

    def take_delay(self, event_type: str) -> float | None:
        """Return the seconds until this client event is processed."""
        return self.delays.take(event_type) or (self.shared.take_delay(event_type) if self.shared else None)

    def take_ending(self) -> Ending | None:
        """Return the end of the response that begins now; None: it ends well."""
        return self.endings.take() or (self.shared.take_ending() if self.shared else None)

    def take_late_response(self) -> float:
        """Return the seconds until the requested response is created."""
        return self.late_responses.take() or (self.shared.take_late_response() if self.shared else 0.0)

    def take_late_deltas(self) -> int:
        """Return the number of deltas that follow the response cancelled now."""
        count, self.late_deltas = self.late_deltas, 0
        return count or (self.shared.take_late_deltas() if self.shared else 0)

    def loses(self, event_type: str) -> bool:
        """Tell whether not to send this server event, and count it."""
        if _counted_down(self.lost_events, event_type):
            return True
        return self.shared is not None and self.shared.loses(event_type)

    def take_garbling(self, event_type: str) -> Garbling | None:
        """Return the damage to this server event."""
        return self.garblings.take(event_type) or (self.shared.take_garbling(event_type) if self.shared else None)

    def take_endless_speech(self) -> bool:
        """Tell whether the end of the speech that begins now is not reported, and count it."""
        if self.endless_speech > 0:
            self.endless_speech -= 1
            return True
        return self.shared is not None and self.shared.take_endless_speech()

    def take_overlap(self) -> bool:
        """Tell whether the next response overlaps this one, which called functions, and count it."""
        if self.overlaps > 0:
            self.overlaps -= 1
            return True
        return self.shared is not None and self.shared.take_overlap()

    def take_rate_limit(self) -> dict[str, Any] | None:
        """Return the limit for `rate_limits.updated`."""
        return self.rate_limits.take() or (self.shared.take_rate_limit() if self.shared else None)

    def exceeds_context(self, input_tokens: int) -> bool:
        """Tell whether a response has more input than the model accepts."""
        limits = (self.context_limit_tokens, self.shared.context_limit_tokens if self.shared else None)
        return any(limit is not None and input_tokens > limit for limit in limits)

    def failing(self, now_seconds: float) -> Ending | None:
        """Return the end of every response while the service is down; None: it is not."""
        if now_seconds < self.outage.until_seconds:
            return self.outage.ending
        return self.shared.failing(now_seconds) if self.shared else None

    def clear(self) -> None:
        """Drop all faults of this session; `shared` stays."""
        fresh = SessionFaults()
        for name in self.__slots__:
            if name != "shared":
                setattr(self, name, getattr(fresh, name))


def _counted_down(counts: Counter[str], name: str) -> bool:
    if counts and counts[name] > 0:
        counts[name] -= 1
        if not counts[name]:
            del counts[name]
        return True
    return False

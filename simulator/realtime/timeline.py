"""The times of a session's audio, of its faults, and of its readiness to answer. Without I/O.

Times are seconds of the simulator's monotonic clock, which is the same for all processes of a machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field

# A longer interval between appended audio is a pause: frames come every 20 ms, in bursts after a stall.
AUDIO_PAUSE_SECONDS = 0.2

# Maximum spans of each kind; the oldest are dropped.
MAX_SPANS = 1000


@dataclass(slots=True)
class Span:
    """A time span; the end is None if it lasts until now."""

    from_seconds: float
    until_seconds: float | None = None

    def report(self) -> list[float | None]:
        """Return the span as JSON."""
        return [self.from_seconds, self.until_seconds]


@dataclass(frozen=True, slots=True)
class Struck:
    """A fault that happened: its name, and the span in which it kept the client from its answer."""

    name: str
    from_seconds: float
    until_seconds: float


@dataclass(slots=True)
class Timeline:
    """The times of one session.

    Attributes:
        opened_seconds: time at which the connection was accepted.
        closed_seconds: time at which the connection ended.
        last_event_seconds: time of the client's last event.
        answering: spans in which the session is set up, and answers turns by itself or is about to speak.
        audio: spans in which the caller's audio arrived without a pause of `AUDIO_PAUSE_SECONDS`.
        faults: commanded faults that happened.
    """

    opened_seconds: float | None = None
    closed_seconds: float | None = None
    last_event_seconds: float | None = None
    answering: list[Span] = field(default_factory=list)
    audio: list[Span] = field(default_factory=list)
    faults: list[Struck] = field(default_factory=list)

    def event(self, *, audio: bool, now_seconds: float) -> None:
        """Note a client event."""
        self.last_event_seconds = now_seconds
        if not audio:
            return
        latest = self.audio[-1] if self.audio else None
        if latest is None or now_seconds - (latest.until_seconds or 0.0) > AUDIO_PAUSE_SECONDS:
            _append(self.audio, Span(now_seconds, now_seconds))
        else:
            latest.until_seconds = now_seconds

    def answers(self, may_answer: bool, now_seconds: float) -> None:
        """Note whether the session may answer, from now on."""
        answering = bool(self.answering) and self.answering[-1].until_seconds is None
        if may_answer and not answering:
            _append(self.answering, Span(now_seconds))
        elif answering and not may_answer:
            self.answering[-1].until_seconds = now_seconds

    def suffered(self, name: str, from_seconds: float, until_seconds: float) -> None:
        """Note a fault that happened."""
        self.faults.append(Struck(name, from_seconds, until_seconds))
        if len(self.faults) > MAX_SPANS:
            del self.faults[0]

    def closed(self, now_seconds: float) -> None:
        """Note the end of the connection."""
        self.answers(False, now_seconds)
        self.closed_seconds = now_seconds

    def report(self) -> dict[str, object]:
        """Return the times as JSON: each span is `[from, until]`."""
        return {
            "opened_seconds": self.opened_seconds,
            "closed_seconds": self.closed_seconds,
            "last_event_seconds": self.last_event_seconds,
            "answering": [span.report() for span in self.answering],
            "audio": [span.report() for span in self.audio],
            "faults": [[each.name, each.from_seconds, each.until_seconds] for each in self.faults],
        }


def _append(spans: list[Span], span: Span) -> None:
    spans.append(span)
    if len(spans) > MAX_SPANS:
        del spans[0]

"""What a dispatcher knows of one call that its record will say; kept in Redis, as a dispatcher may die."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Final, Self

from common.link import wire
from dispatcher.call.actions import SPOKE_FIRST, Measurement, Metric
from dispatcher.records.call_record import Said, Segment, joined

MAX_SAID: Final = 2000
"""Things that were said that a record has; later ones are counted."""

MAX_SAID_CHARS: Final = 256 * 1024
"""Characters of them."""

MAX_SESSIONS: Final = 64
"""Sessions whose figures are kept apart. A call of a day has 26; of more, the oldest figures are lost."""

_NUMBERS_OF_TURNS: Final = ("latencies_ms", "end_of_speech_ms", "model_ms")
_MOVES: Final = {wire.Reason.DRAIN.value, wire.Reason.ROLLOVER.value}


class CallFacts:
    """Facts of one call, counted at this dispatcher and at earlier ones.

    The copy in Redis is about a second old. What a dispatcher counted in its last second, before it died, is lost;
    the figures of sessions are not, because the worker has them, too.

    Attributes:
        record_id: id of the call's record.
        recording: files of the call's recording, in order.
        trace_id: of the call's trace; None: there is none.
        traceparent: with which the call came; empty: there was none.
        started_at: when the call began at an earlier dispatcher, in seconds since the epoch; None: it began here.
        tenant: of the call; empty: there are no tenants.
        is_changed: the copy in Redis is out of date.
        has_text: what is said is part of the record.
    """

    def __init__(self, record_id: str, *, with_text: bool = False) -> None:
        """Make the facts of a call that begins.

        Args:
            record_id: id of the call's record.
            with_text: keep what is said.
        """
        self.record_id = record_id
        self.recording: tuple[Segment, ...] = ()
        self.trace_id: str | None = None
        self.traceparent = ""
        self.started_at: float | None = None
        self.tenant = ""
        self.is_changed = True
        self.counts = Counts()
        self.greeting_seconds: float | None = None
        self.said: list[Said] = []
        self.said_left_out = 0
        self.figures: dict[int, wire.Figures] = {}
        self.has_text = with_text
        self._said_chars = 0

    def measured(self, measurement: Measurement) -> None:
        """Take note of what the call measures."""
        note = _NOTES.get(measurement.seen)
        if note is not None:
            note(self, measurement)
            self.is_changed = True

    def heard(self, role: str, text: str, at_seconds: float) -> None:
        """Take note of a transcript that AVR Core got.

        Args:
            role: `user` or `agent`.
            text: what was said.
            at_seconds: time in the call.
        """
        self.is_changed = True
        if role == "user":
            self.counts.turns += 1
        if not self.has_text:
            return
        if len(self.said) >= MAX_SAID or self._said_chars + len(text) > MAX_SAID_CHARS:
            self.said_left_out += 1
            return
        self._said_chars += len(text)
        self.said.append(Said(role, text, round(at_seconds, 3)))

    def recorded(self, segments: tuple[Segment, ...]) -> None:
        """Take the files of the recording; a file that is known gets longer."""
        if not segments:
            return
        known = {(each.host, each.file) for each in self.recording}
        self.is_changed |= not known.issuperset((each.host, each.file) for each in segments)
        self.recording = joined(self.recording, segments)

    def belongs_to(self, tenant: str) -> None:
        """Note the tenant of the call."""
        self.is_changed |= tenant != self.tenant
        self.tenant = tenant

    def session(self, figures: wire.Figures) -> None:
        """Take the figures of a session, which replace its earlier ones."""
        self.is_changed = True
        self.figures[figures.session] = figures
        if len(self.figures) > MAX_SESSIONS:
            del self.figures[min(self.figures)]

    # The copy in Redis

    def as_json(self) -> dict[str, Any]:
        """Return all facts as JSON types."""
        return {
            "record_id": self.record_id,
            "trace_id": self.trace_id,
            "traceparent": self.traceparent,
            "tenant": self.tenant,
            "counts": dataclasses.asdict(self.counts),
            "greeting_seconds": self.greeting_seconds,
            "recording": [dataclasses.asdict(each) for each in self.recording],
            "said": [dataclasses.asdict(each) for each in self.said],
            "said_left_out": self.said_left_out,
            "figures": [dataclasses.asdict(each) for each in self.figures.values()],
        }

    def add_earlier(self, earlier: CallFacts) -> None:
        """Add what an earlier dispatcher of the call knew; its record's id and trace are the call's."""
        self.is_changed = True
        self.record_id = earlier.record_id
        if earlier.trace_id is not None:
            self.trace_id, self.traceparent = earlier.trace_id, earlier.traceparent
        self.tenant = earlier.tenant or self.tenant
        self.counts = self.counts.plus(earlier.counts)
        if earlier.greeting_seconds is not None:
            self.greeting_seconds = earlier.greeting_seconds
        self.recording = joined(earlier.recording, self.recording)
        self.said = [*earlier.said, *self.said]
        self.said_left_out += earlier.said_left_out
        self._said_chars += earlier._said_chars
        # A session that goes on has told this dispatcher more.
        self.figures = earlier.figures | self.figures

    @classmethod
    def from_json(cls, written: dict[str, Any], *, with_text: bool) -> Self:
        """Return the facts of a copy.

        Raises:
            ValueError: it cannot be read.
        """
        try:
            facts = cls(str(written["record_id"]), with_text=with_text)
            facts.trace_id = written.get("trace_id")
            facts.traceparent = str(written.get("traceparent") or "")
            facts.tenant = str(written.get("tenant") or "")
            facts.counts = Counts(**written["counts"])
            facts.greeting_seconds = written.get("greeting_seconds")
            facts.recording = tuple(Segment(**each) for each in written["recording"])
            facts.said = [Said(**each) for each in written["said"]] if with_text else []
            facts.said_left_out = int(written["said_left_out"])
            for each in written["figures"]:
                tuples = {name: tuple(each.get(name, ())) for name in _NUMBERS_OF_TURNS}
                tuples["tools"] = tuple(wire.ToolFigure(**tool) for tool in each["tools"])
                facts.session(wire.Figures(**each | tuples))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"the facts of a call cannot be read: {error!r}") from error
        facts._said_chars = sum(len(each.text) for each in facts.said)
        return facts

    def _greeted(self, measurement: Measurement) -> None:
        if self.greeting_seconds is None and measurement.label != SPOKE_FIRST:
            self.greeting_seconds = round(measurement.value, 3)


@dataclasses.dataclass(slots=True)
class Counts:
    """Numbers of a call that add up over its dispatchers."""

    turns: int = 0
    interruptions: int = 0
    keys: int = 0
    moves: int = 0
    recoveries: int = 0

    def plus(self, other: Counts) -> Counts:
        """Return the sums."""
        return Counts(*(a + b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)))


def _interrupted(facts: CallFacts, _: Measurement) -> None:
    facts.counts.interruptions += 1


def _pressed(facts: CallFacts, _: Measurement) -> None:
    facts.counts.keys += 1


def _went_on(facts: CallFacts, measurement: Measurement) -> None:
    if measurement.label in _MOVES:
        facts.counts.moves += 1
    else:
        facts.counts.recoveries += 1


_NOTES: Final[dict[Metric, Callable[[CallFacts, Measurement], None]]] = {
    Metric.INTERRUPTION: _interrupted,
    Metric.DIGIT: _pressed,
    Metric.RECOVERY_SECONDS: _went_on,
    Metric.GREETING_SECONDS: CallFacts._greeted,
}

"""Facts of calls and faults, gathered from all sides, by which a run is judged.

All times are seconds of the machine's monotonic clock, which the simulator, the callers and the tools share.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from simulator.avr.call_record import ClosedBy, Violation
from tests.chaos.ears import HeardWord


class Part(enum.Enum):
    """The purpose of a caller."""

    TALKER = "talker"
    """Holds a conversation; all rules apply to it."""
    STALLED = "stalled"
    """A core that stops reading: only its own call may suffer."""
    FLOODER = "flooder"
    """A core that sends far too much: only its own call must end."""


class FaultKind(enum.Enum):
    """A kind of fault."""

    KILL_WORKER = "worker killed"
    STOP_WORKER = "worker stopped for a while"
    DRAIN_WORKER = "worker told to stop"
    CUT_LINK = "link cut"
    BREAK_LINK = "link broken for a while"
    DROP_SESSION = "Realtime connection cut"
    STALL_SESSION = "Realtime connection stalled"
    EXPIRE_SESSION = "Realtime session expired"
    REFUSE_SESSIONS = "Realtime API answers 503"
    KILL_DISPATCHER = "dispatcher killed"
    DRAIN_DISPATCHER = "dispatcher told to stop"
    CUT_CALLER = "caller's connection cut"
    KILL_REDIS = "Redis killed, restarted empty"
    PAUSE_REDIS = "Redis paused"
    FLUSH_REDIS = "Redis flushed"
    KILL_WORKER_WITHOUT_REDIS = "worker killed while Redis is away"
    KILL_DISPATCHER_WITHOUT_REDIS = "dispatcher killed while Redis is away"
    FAIL_ANSWER = "answer fails unheard"
    CUT_ANSWER = "answer fails after some audio"
    LIMIT_ANSWER = "answer fails by the rate limit"
    EMPTY_ANSWER = "answer without anything to hear"
    ERROR_IN_ANSWER = "error event in place of response.done"
    LOSE_DONE = "response.done lost"
    REFUSE_ANSWER = "response.create refused"
    LATE_ANSWER = "response.created late"
    LONE_SURROGATE = "lone surrogate in an event"
    ENDLESS_SPEECH = "speech without an end"
    OUTAGE = "Realtime API down for a while"
    KILL_BOTH = "worker and dispatcher killed together"
    HANG_DISPATCHER = "dispatcher hangs"
    DRAIN_IN_ROLLOVER = "worker told to stop in a rollover"
    FULL_DISK = "temporary folder full"
    STALL_STDERR = "stderr not read for a while"
    HOSTILE_INIT = "hostile cores connect"
    STALLED_CORE = "core stops reading"
    FLOODING_CORE = "core floods"


BESIDE = frozenset({FaultKind.FULL_DISK, FaultKind.STALL_STDERR, FaultKind.HOSTILE_INIT})
"""Faults beside the calls, which no caller may notice."""


@dataclass(slots=True)
class Fault:
    """A fault that was carried out.

    Attributes:
        calls: uuids of the calls that it hit.
        lasts: whether it lasts for a while.
        until_seconds: end of a lasting fault.
        was_killed: whether a hung process was killed instead of waking up.
    """

    kind: FaultKind
    at_seconds: float
    calls: frozenset[str] = frozenset()
    lasts: bool = False
    until_seconds: float | None = None
    detail: str = ""
    was_killed: bool = False


@dataclass(frozen=True, slots=True)
class Utterance:
    """A caller's utterance.

    Attributes:
        words: number of words in each turn that the simulator makes of it.
        damaged: whether frames of it were lost without a connection, or came late by more than a second.
    """

    from_seconds: float
    until_seconds: float
    words: tuple[int, ...]
    damaged: bool = False


@dataclass(frozen=True, slots=True)
class Close:
    """The end of a caller's connection."""

    at_seconds: float
    code: int
    by: ClosedBy


@dataclass(frozen=True, slots=True)
class Gap:
    """A time without a caller's connection; `back_seconds` is None if it never returned."""

    lost_seconds: float
    back_seconds: float | None


@dataclass(frozen=True, slots=True)
class Item:
    """An item of a session's conversation, as the simulator reports it."""

    type: str
    role: str = ""
    text: str | None = None
    said: str = ""
    name: str = ""
    call_id: str = ""
    arguments: str = ""
    output: str | None = None
    audio_ms: int = 0
    origin: str = ""

    @classmethod
    def of(cls, report: dict[str, Any]) -> Item:
        """Read an item from the simulator's report, which leaves out empty fields."""
        return cls(
            type=report["type"],
            role=report.get("role", ""),
            text=report.get("text"),
            said=report.get("said", ""),
            name=report.get("name", ""),
            call_id=report.get("call_id", ""),
            arguments=report.get("arguments", ""),
            output=report.get("output"),
            audio_ms=report.get("audio_ms", 0),
            origin=report.get("origin", ""),
        )


Spans = Sequence[tuple[float, float]]
"""Spans as (begin, end); the end is `inf` if the span has not ended."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A response of a session.

    Attributes:
        started_seconds: time of its creation; `inf`: it was not created.
        status: status at its end.
        text: words that were sent.
    """

    started_seconds: float
    status: str
    text: str


@dataclass(frozen=True, slots=True)
class Struck:
    """A fault of the Realtime API that kept a session from an answer; `name` is the simulator's."""

    name: str
    from_seconds: float
    until_seconds: float


@dataclass(frozen=True, slots=True)
class Session:
    """A Realtime session of a call.

    Attributes:
        peer: address and port of the worker's end.
        answering: spans in which it might answer.
        hearing: spans in which the caller's audio arrived.
        last_event_seconds: time of the client's last event.
        responses: its responses, in order.
        struck: faults of the API, at the time at which they struck.
    """

    number: int
    peer: str
    opened_seconds: float
    closed_seconds: float
    answering: Spans
    hearing: Spans
    last_event_seconds: float
    items: tuple[Item, ...] = ()
    responses: tuple[Reply, ...] = ()
    struck: tuple[Struck, ...] = ()

    @classmethod
    def of(cls, report: dict[str, Any]) -> Session:
        """Read a session from the simulator's report."""
        timeline = report["timeline"]
        return cls(
            number=report["number"],
            peer=report["peer"],
            opened_seconds=_or(timeline["opened_seconds"], float("inf")),
            closed_seconds=_or(timeline["closed_seconds"], float("inf")),
            answering=_spans(timeline["answering"]),
            hearing=_spans(timeline["audio"]),
            last_event_seconds=_or(timeline["last_event_seconds"], float("-inf")),
            items=tuple(Item.of(item) for item in report.get("items", ())),
            responses=tuple(
                Reply(_or(each["started_seconds"], float("inf")), each["status"], each["text"])
                for each in report.get("responses", ())
            ),
            struck=tuple(Struck(*each) for each in timeline.get("faults", ())),
        )


@dataclass(frozen=True, slots=True)
class ToolRun:
    """A run of the tool, recorded by the tool itself; the model uses each `ask` once."""

    uuid: str
    ask: str
    pid: int
    at_seconds: float


@dataclass(frozen=True, slots=True)
class Pin:
    """A dispatcher's log line about the assignment of a call to a worker."""

    worker: str
    epoch: int
    dispatcher: str = ""


@dataclass(slots=True)
class Frozen:
    """A stop of a worker, with its ends of Realtime connections; the end is `inf` while the stop lasts."""

    from_seconds: float
    until_seconds: float
    peers: frozenset[str] = frozenset()


@dataclass(slots=True)
class CallFacts:
    """One call that has ended.

    Attributes:
        heard: words of the agent as they were played.
        transcripts: (role, text) in order of arrival.
        interruptions: number of interruptions.
        messages: both of these, with their times.
        sessions: sessions in order of opening.
        restorations: times at which a dispatcher had to restore the call after the loss of its session.
        hung_up: `caller` or `agent`; empty if neither hung up.
        faults: faults that hit this call.
        beside: faults of kinds in `BESIDE` during the call.
        rollover_seconds: age at which a session is replaced anyway.
        capacity: whether a worker took new calls when this call began.
        speech_seconds, lost_speech_seconds: the caller's speech, and its part without a connection.
        unanswered: times at which the caller gave up waiting for a reply.
        promised: time at which avr-ami was first asked to hang up; None: never.
        hang_ups: number of such requests.
        waited_for_agent: whether the caller gave the agent time to hang up.
    """

    uuid: str
    part: Part
    started_seconds: float
    ended_seconds: float = 0.0
    closes: list[Close] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    protocol: list[Violation] = field(default_factory=list)
    utterances: list[Utterance] = field(default_factory=list)
    heard: list[HeardWord] = field(default_factory=list)
    transcripts: list[tuple[str, str]] = field(default_factory=list)
    interruptions: int = 0
    messages: list[tuple[float, str]] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    tool_runs: list[ToolRun] = field(default_factory=list)
    pins: list[Pin] = field(default_factory=list)
    restorations: list[float] = field(default_factory=list)
    hung_up: str = ""
    faults: list[Fault] = field(default_factory=list)
    beside: list[Fault] = field(default_factory=list)
    frozen: list[Frozen] = field(default_factory=list)
    rollover_seconds: float = float("inf")
    capacity: bool = True
    speech_seconds: float = 0.0
    lost_speech_seconds: float = 0.0
    unanswered: list[float] = field(default_factory=list)
    promised: float | None = None
    hang_ups: int = 0
    waited_for_agent: bool = False


@dataclass(frozen=True, slots=True)
class Breach:
    """A breach of a rule."""

    rule: str
    what: str
    at_seconds: float
    uuid: str = ""


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _spans(report: Sequence[Sequence[float | None]]) -> Spans:
    return tuple((_or(begins, float("-inf")), _or(ends, float("inf"))) for begins, ends in report)

"""The record of one call that has ended, and its bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import orjson

VERSION: Final = 1
"""Of the record's fields. Fields may be added under the same version; none changes its meaning or goes."""


@dataclass(frozen=True, slots=True)
class ToolUse:
    """One call of a tool.

    Attributes:
        name: of the tool.
        seconds: from the call to its output.
        outcome: `completed`, `failed`, `timed_out` or `refused`.
    """

    name: str
    seconds: float
    outcome: str


@dataclass(frozen=True, slots=True)
class Latency:
    """How long the caller waited for the agent.

    Attributes:
        count: number of measured turns.
        p50_seconds: median, from the end of the caller's speech to the first audio of the reply.
        p95_seconds: 95th percentile.
        worst_seconds: maximum.
        end_of_speech_seconds: median of the part until the turn was known to have ended.
        model_seconds: median of the part in which the API worked.
        service_seconds: median of the part that this service took.
    """

    count: int = 0
    p50_seconds: float | None = None
    p95_seconds: float | None = None
    worst_seconds: float | None = None
    end_of_speech_seconds: float | None = None
    model_seconds: float | None = None
    service_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """One sound file of a call's recording.

    Attributes:
        host: on which the file lies.
        file: its name in RECORDINGS_DIR.
        from_seconds: begin in the call.
        seconds: length.
    """

    host: str
    file: str
    from_seconds: float
    seconds: float


def joined(known: tuple[Segment, ...], told: tuple[Segment, ...]) -> tuple[Segment, ...]:
    """Return the files of a recording from two sources, in order; the second replaces files of the first."""
    files = {(each.host, each.file): each for each in (*known, *told)}
    return tuple(sorted(files.values(), key=lambda each: (each.from_seconds, each.file)))


@dataclass(frozen=True, slots=True)
class Said:
    """One thing that was said, as it was heard.

    Attributes:
        role: `user` or `agent`.
        text: what was said.
        at_seconds: time in the call at which the transcript was complete.
    """

    role: str
    text: str = field(repr=False)
    at_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class CallRecord:
    """What one call leaves behind.

    Attributes:
        id: of the record; a call has one, whoever writes its record.
        uuid: of the call.
        tenant: of the call; None where there are no tenants.
        metadata: of the call, the fields that CALL_RECORDS_METADATA names.
        started_at: when the call began, in seconds since the epoch.
        ended_at: when it ended.
        ending: `completed`, `rejected`, `failed` or `lost`.
        reason: an `EndReason`.
        reason_text: the same for people.
        hung_up_by: `caller`, `agent`, `api` or `service`.
        turns: number of the caller's turns.
        interruptions: number of replies that the caller interrupted.
        keys: number of keys that were pressed. Which keys they were is not recorded.
        tools: calls of tools, in order.
        tools_left_out: number of further calls of tools.
        moves: number of planned moves to another session.
        recoveries: number of sessions that took over from a lost one.
        answers_retried: number of answers that were requested again.
        answers_given_up: number of answers that did not come.
        greeting_seconds: from `init` to the first audio for the caller; None: there was none.
        turn_latency: of all turns.
        tokens: numbers by model and class, such as `{"gpt-realtime-2": {"input_audio": 120}}`.
        transcription_seconds: length of audio that was transcribed and is charged by its length.
        cost_usd: of all tokens and transcriptions whose prices are known.
        model: of the last session.
        voice: of the last session.
        release: of the dispatcher that wrote the record.
        trace_id: of the call's trace; None: there is none.
        recording: files of the recording, in order.
        said: what was said, with CALL_RECORDS_TEXT; None: it is not recorded.
        said_left_out: number of further things that were said.
    """

    id: str
    uuid: str
    tenant: str | None
    metadata: dict[str, str]
    started_at: float
    ended_at: float
    ending: str
    reason: str
    reason_text: str
    hung_up_by: str
    turns: int = 0
    interruptions: int = 0
    keys: int = 0
    tools: tuple[ToolUse, ...] = ()
    tools_left_out: int = 0
    moves: int = 0
    recoveries: int = 0
    answers_retried: int = 0
    answers_given_up: int = 0
    greeting_seconds: float | None = None
    turn_latency: Latency = Latency()
    tokens: dict[str, dict[str, int]] = field(default_factory=dict)
    transcription_seconds: float = 0.0
    cost_usd: float = 0.0
    model: str = ""
    voice: str = ""
    release: str = ""
    trace_id: str | None = None
    recording: tuple[Segment, ...] = ()
    said: tuple[Said, ...] | None = None
    said_left_out: int = 0

    @property
    def seconds(self) -> float:
        """Length of the call."""
        return round(self.ended_at - self.started_at, 3)

    def as_json(self) -> dict[str, Any]:
        """Return the record as JSON types; times are ISO 8601 in UTC."""
        fields: dict[str, Any] = orjson.loads(orjson.dumps(self))
        fields["started_at"] = iso_time(self.started_at)
        fields["ended_at"] = iso_time(self.ended_at)
        if self.said is None:
            del fields["said"], fields["said_left_out"]
        return {"version": VERSION, "seconds": self.seconds, **fields}

    def encoded(self) -> bytes:
        """Return the bytes of the record: one line of JSON, the same for the same record."""
        return orjson.dumps(self.as_json(), option=orjson.OPT_SORT_KEYS)


def iso_time(epoch_seconds: float) -> str:
    """Return a time as ISO 8601 in UTC, with milliseconds."""
    return datetime.fromtimestamp(epoch_seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

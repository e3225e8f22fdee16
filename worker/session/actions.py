"""The actions of a session, which its shell carries out: see `worker/session/session.py`.

Actions of every frame are tuples: a frozen dataclass takes three times as long to make.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from common.link.wire import Outcome, Record
from worker.realtime.usage import Usage
from worker.tools.entries import Entry


class Metric(Enum):
    """A value that the shell counts or measures."""

    TURN_LATENCY_SECONDS = "turn_latency_seconds"
    TURN_PART_SECONDS = "turn_part_seconds"
    ANSWER_WAIT_SECONDS = "answer_wait_seconds"
    ANSWER_RETRIED = "answer_retried"
    ANSWER_GIVEN_UP = "answer_given_up"
    RATE_LIMIT_REMAINING = "rate_limit_remaining"
    UPSTREAM_ERROR = "upstream_error"
    SIDE_ERROR = "side_error"
    """An error without an effect on answers: of a transcription, or of a remote tool's server."""
    CALLER_AUDIO_DROPPED_SECONDS = "caller_audio_dropped_seconds"
    REPLY_AUDIO_DROPPED_SECONDS = "reply_audio_dropped_seconds"


class ToUpstream(NamedTuple):
    """Send this event to the Realtime API.

    Attributes:
        event: the event in the GA dialect.
    """

    event: dict[str, Any]


class AppendAudio(NamedTuple):
    """Append the caller's audio to the input buffer of the Realtime API.

    Attributes:
        audio: audio in the session's format, as base64.
    """

    audio: bytes


class ToDispatcher(NamedTuple):
    """Send this record on the call's channel."""

    record: Record


@dataclass(frozen=True, slots=True)
class Connect:
    """Open a Realtime connection after a delay; answered by `connected` or `connect_failed`."""

    delay_seconds: float


@dataclass(frozen=True, slots=True)
class RunTool:
    """Run a tool, off the audio path; answered by `tool_done`."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Collected:
    """Give a tool the keys that it asked the caller for, or the reason for their absence.

    Attributes:
        number: number of the request.
        entry: the keys, which only the tool may get.
    """

    number: int
    entry: Entry


@dataclass(frozen=True, slots=True)
class Happened:
    """Show an event, which may contain texts of the conversation, to the watchers of the call."""

    event: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer a command of the calls API, by its number, with an HTTP status and a JSON body."""

    number: int
    status: int
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Measurement:
    """Count or measure something.

    Attributes:
        of: the whole of which the value is a part; 0: there is no whole, or it is unknown.
    """

    seen: Metric
    value: float = 1.0
    label: str = ""
    of: float = 0.0


@dataclass(frozen=True, slots=True)
class Used:
    """Count the tokens of a response."""

    usage: Usage


@dataclass(frozen=True, slots=True)
class Transcribed:
    """Count the usage of a transcription.

    Attributes:
        usage: as the API reports it, of any type: see `worker.realtime.usage.TranscriptionUsage`.
    """

    # `object`, because compiled code refuses values of another type, and with them the whole event.
    usage: Any


@dataclass(frozen=True, slots=True)
class Configured:
    """Store a change of the session by the calls API, for the next session of the call.

    Attributes:
        session: the changed fields; `tools` has only added and replaced tools.
    """

    session: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ended:
    """Close the Realtime connection, because the session is over; always the last action.

    Attributes:
        outcome: outcome under which the call is counted.
        reason: text for people.
    """

    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True)
class Released:
    """Close the Realtime connection, because another session continues the call; always the last action.

    Attributes:
        reason: a `Reason` of the link.
        message: text for people.
    """

    reason: str
    message: str


Action = (
    ToUpstream
    | AppendAudio
    | ToDispatcher
    | Connect
    | RunTool
    | Collected
    | Happened
    | Answer
    | Measurement
    | Used
    | Transcribed
    | Configured
    | Ended
    | Released
)

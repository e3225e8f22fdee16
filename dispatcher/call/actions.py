"""Actions of a call, which its shell carries out: see `dispatcher/call/call.py`.

Actions of every frame are tuples: a frozen dataclass takes three times as long to make.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final, NamedTuple

from common.link import wire
from common.link.wire import EndReason
from common.observe.metrics import FallbackOutcome
from dispatcher.call.assignment import Assignment


class Ending(StrEnum):
    """Outcome under which a call is counted."""

    COMPLETED = "completed"
    REJECTED = "rejected"
    FAILED = "failed"
    MOVED = "moved"
    """Not counted: another dispatcher has the caller now."""


@dataclass(frozen=True, slots=True)
class CallEnd:
    """End of a call, and its reason.

    Attributes:
        ending: outcome under which the call is counted.
        reason: the reason in the call's record.
        message: the reason for people; empty: the call ended as it should.
    """

    ending: Ending
    reason: EndReason
    message: str


class Metric(Enum):
    """Metric that the shell counts or measures."""

    BAD_INPUT = "bad_input"
    INTERRUPTION = "interruption"
    DIGIT = "digit"
    GREETING_SECONDS = "greeting_seconds"
    CALLER_AUDIO_DROPPED_SECONDS = "caller_audio_dropped_seconds"
    CALLER_GAP_SECONDS = "caller_gap_seconds"
    CALLER_JITTER_SECONDS = "caller_jitter_seconds"
    CALLER_LEVEL_DBFS = "caller_level_dbfs"
    REPIN = "repin"
    RECOVERY_SECONDS = "recovery_seconds"


SPOKE_FIRST: Final = "spoke_first"
"""Label of GREETING_SECONDS if the caller spoke first, so that the first sound is not a greeting."""


class Play(NamedTuple):
    """Hand these frames (of 320 bytes of PCM16 at 8 kHz each) to AVR Core."""

    pcm: bytes


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Have AVR Core drop audio that it has not played."""


@dataclass(frozen=True, slots=True)
class SendTranscript:
    """Send AVR Core a transcript; `role` is `user` or `agent`."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class SendError:
    """Send AVR Core an error."""

    message: str


@dataclass(frozen=True, slots=True)
class Execute:
    """Have avr-ami hang up or transfer; answered by `executed`."""

    command: wire.TelephonyCommand


@dataclass(frozen=True, slots=True)
class TransferAway:
    """Have avr-ami transfer a call on its way out, if that is allowed; answered by `transferred_away`."""

    extension: str
    context: str


@dataclass(frozen=True, slots=True)
class TookWayOut:
    """Count and log the outcome of a way out."""

    outcome: FallbackOutcome
    cause: str


@dataclass(frozen=True, slots=True)
class Wake:
    """Call `wake` at this time of the monotonic clock."""

    at_seconds: float


class ToWorker(NamedTuple):
    """Send a record to an assignment's worker.

    Attributes:
        assignment: assignment of the call.
        record: what to send.
        counted: the record is counted. If the link breaks, it is sent again on the next link.
    """

    assignment: Assignment
    record: wire.Record
    counted: bool = True


class Purpose(Enum):
    """Purpose for which a call wants a worker."""

    BEGIN = "begin"  # `init` has come
    RECOVER = "recover"  # the call has lost its session
    MOVE = "move"  # the call has a session, which will end


@dataclass(frozen=True, slots=True)
class Place:
    """Find a worker and open a channel to it; answered by `placed` or `not_placed`.

    Attributes:
        purpose: purpose of the search.
        epoch: minimum epoch of the new assignment.
        excluded: workers that must not get the call.
        same_worker: worker that gets the call if it still can. It needs no new pin.
    """

    purpose: Purpose
    epoch: int
    excluded: frozenset[str] = frozenset()
    same_worker: str = ""


@dataclass(frozen=True, slots=True)
class LeaveChannel:
    """Leave the assignment's channel. Nothing is sent or expected there any more."""

    assignment: Assignment


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish the call's new holder to Redis now, before the next renewal."""


@dataclass(frozen=True, slots=True)
class Unpin:
    """Remove the call from Redis, if its epoch there is still this one."""

    epoch: int


@dataclass(frozen=True, slots=True)
class CloseCaller:
    """Close the caller's connection, if it is open."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Measurement:
    """Count or measure a metric."""

    seen: Metric
    value: float = 1.0
    label: str = ""


@dataclass(frozen=True, slots=True)
class MessageIgnored:
    """Log the first message of the call that was not understood.

    Attributes:
        reason: the label under which such messages are counted.
        message: text for people, without any part of AVR Core's message.
    """

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Ended:
    """Forget the call, which has ended. This is the last action, except for `TookWayOut` of a pending transfer."""

    ending: Ending
    reason: str


ToCaller = Play | Interrupt | SendTranscript | SendError | CloseCaller
Action = (
    ToCaller
    | ToWorker
    | Execute
    | TransferAway
    | TookWayOut
    | Wake
    | Place
    | LeaveChannel
    | Publish
    | Unpin
    | Measurement
    | MessageIgnored
    | Ended
)

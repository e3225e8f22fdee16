"""What a call wants done, and what its shell counts: see `dispatcher/call.py`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum

from common import link


class Ending(StrEnum):
    """How a call is counted."""

    COMPLETED = "completed"
    REJECTED = "rejected"
    FAILED = "failed"


class Seen(Enum):
    """What the shell counts or measures."""

    BAD_INPUT = "bad_input"
    INTERRUPTION = "interruption"
    DIGIT = "digit"
    GREETING_SECONDS = "greeting_seconds"
    CALLER_AUDIO_DROPPED_SECONDS = "caller_audio_dropped_seconds"


@dataclass(frozen=True, slots=True)
class Play:
    """Hand this frame (320 bytes of PCM16 at 8 kHz) to AVR Core."""

    frame: bytes


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Have AVR Core drop what it has not played."""


@dataclass(frozen=True, slots=True)
class Tell:
    """Give AVR Core a transcript; `role` is `user` or `agent`."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Complain:
    """Give AVR Core an error."""

    message: str


@dataclass(frozen=True, slots=True)
class Execute:
    """Have avr-ami hang up or transfer; answered by `executed`."""

    order: link.Order


@dataclass(frozen=True, slots=True)
class ToWorker:
    """Send this record on the call's channel."""

    record: bytes


@dataclass(frozen=True, slots=True)
class Place:
    """Pin the call to a worker and open a channel to it; answered by `placed` or `not_placed`."""

    epoch: int
    excluded: frozenset[str]


@dataclass(frozen=True, slots=True)
class LeaveChannel:
    """Nothing more will be sent or is expected on the channel."""


@dataclass(frozen=True, slots=True)
class Unpin:
    """Take the call out of Redis, if it is still at this epoch there."""

    epoch: int


@dataclass(frozen=True, slots=True)
class CloseCaller:
    """Close the caller's connection; nothing to do where it is gone."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """Count or measure something."""

    seen: Seen
    value: float = 1.0
    label: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """The call is over; always the last action."""

    ending: Ending
    reason: str


ToCaller = Play | Interrupt | Tell | Complain | CloseCaller
Action = ToCaller | ToWorker | Execute | Place | LeaveChannel | Unpin | Report | Ended

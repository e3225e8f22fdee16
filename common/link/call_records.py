"""The records of a call's life on a link: how a worker opens, keeps, moves and ends the call."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from common.link.kinds import Kind, Outcome


@dataclass(frozen=True, slots=True)
class Open:
    """Open a call at a worker.

    Attributes:
        epoch: of the call.
        metadata: of the call, from `init`.
        position_samples: position in the call (8 kHz) at which the following audio begins.
        credit_bytes: bytes of reply audio that may be sent before the first CREDIT.
        age_seconds: time since `init`.
        provider_config: from AVR Core's `init`; it may hold a key, so it is never stored or logged.
        restore: the call's memory follows, up to RESUME.
        attach: continue the session that the worker has of this call; UNKNOWN if it has none.
        first_index: first index of new reply items; earlier indexes are in use by the playout clock.
        delay_seconds: time to wait before a session is opened, because the last sessions did not last.
        waited_seconds: time that the call has been without a lasting session.
        filler: the dispatcher plays filler, and needs AWAITING for it.
        traceparent: of the call's first span (W3C Trace Context); empty: the call has no trace.
        collects: the dispatcher understands COLLECT.
        tenant: of the call, as the dispatcher knows it; empty: there are no tenants.
    """

    kind: ClassVar[Kind] = Kind.OPEN
    uuid: str = ""
    epoch: int = 0
    metadata: dict[str, str] = field(default_factory=dict)
    position_samples: int = 0
    credit_bytes: int = 0
    age_seconds: float = 0.0
    provider_config: dict[str, Any] = field(default_factory=dict, repr=False)
    restore: bool = False
    attach: bool = False
    first_index: int = 0
    delay_seconds: float = 0.0
    waited_seconds: float = 0.0
    filler: bool = False
    traceparent: str = ""
    collects: bool = False
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class Opened:
    """The worker has accepted the call.

    Attributes:
        credit_bytes: bytes of caller audio that may be sent before the first CREDIT.
        attached: an existing session continues; its memory follows.
        position_samples: of an attached session: the position at which the following audio must begin.
        collecting: the attached session was collecting keys for a tool, which the caller may still be pressing.
    """

    kind: ClassVar[Kind] = Kind.OPENED
    credit_bytes: int = 0
    attached: bool = False
    position_samples: int = 0
    collecting: bool = False


@dataclass(frozen=True, slots=True)
class Attach:
    """Resume this channel.

    Attributes:
        received: number of records of the channel that the sender has received.
    """

    kind: ClassVar[Kind] = Kind.ATTACH
    uuid: str = ""
    epoch: int = 0
    received: int = 0


@dataclass(frozen=True, slots=True)
class Attached:
    """The channel is resumed.

    Attributes:
        received: number of records of the channel that the sender has received.
    """

    kind: ClassVar[Kind] = Kind.ATTACHED
    received: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """The worker refuses the call.

    Attributes:
        reason: a `Refusal`.
        epoch: the epoch that the worker knows, for `STALE_EPOCH`.
    """

    kind: ClassVar[Kind] = Kind.REFUSED
    reason: str = ""
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Ready:
    """The Realtime session is open.

    Attributes:
        standby: the session stands by, and takes over when the worker is told to resume.
    """

    kind: ClassVar[Kind] = Kind.READY
    standby: bool = False


@dataclass(frozen=True, slots=True)
class Close:
    """Detach from the call.

    Attributes:
        reason: for the log.
        keep: another dispatcher may have the call: the worker detaches the session, and keeps it.
    """

    kind: ClassVar[Kind] = Kind.CLOSE
    reason: str = ""
    keep: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """The worker has ended the call.

    Attributes:
        outcome: an `Outcome`.
        message: for AVR Core, if the call failed.
        end_reason: an `EndReason`.
    """

    kind: ClassVar[Kind] = Kind.ENDED
    outcome: str = Outcome.COMPLETED.value
    message: str = ""
    end_reason: str = ""


@dataclass(frozen=True, slots=True)
class Move:
    """The worker asks the dispatcher to move the call to another session.

    Attributes:
        reason: a `Reason`.
        seconds: time within which the call must have moved.
    """

    kind: ClassVar[Kind] = Kind.MOVE
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Release:
    """End the call's session at the next quiet moment, at the latest after `seconds`; RELEASED answers.

    Attributes:
        seconds: maximum time until the release.
        revoked: the release is cancelled, because the other session no longer stands by.
    """

    kind: ClassVar[Kind] = Kind.RELEASE
    seconds: float = 0.0
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class Released:
    """The worker has no session of the call any more.

    Attributes:
        reason: a `Reason`.
        message: for people.
    """

    kind: ClassVar[Kind] = Kind.RELEASED
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Awaiting:
    """A change in whether the caller waits, for a dispatcher whose OPEN has set `filler`.

    Attributes:
        waiting: an answer is owed or a tool runs, and the caller is not speaking.
    """

    kind: ClassVar[Kind] = Kind.AWAITING
    waiting: bool = False

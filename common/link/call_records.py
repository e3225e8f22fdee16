"""The records of a call's life on a link: how a worker takes, keeps, moves and ends the call."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from common.link.kinds import Kind, Outcome


@dataclass(frozen=True, slots=True)
class Open:
    """Take a call.

    Attributes:
        position_samples: where in the call (8 kHz) the audio that follows begins.
        credit_bytes: how much reply audio may be sent before the first CREDIT.
        age_seconds: since `init`.
        provider_config: as AVR Core's `init` brought it; it may hold a key, so it is never stored or logged.
        restore: the call's memory follows, up to GO.
        attach: go on with the session that the worker has of this call; UNKNOWN if it has none.
        first_index: the numbers of reply items begin here: the earlier ones are known to the playout clock.
        delay_seconds: before a session is opened: the last ones did not last.
        waited_seconds: how long the call has been without a session that lasts.
        filler: the dispatcher plays filler, and wants AWAITING for it.
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


@dataclass(frozen=True, slots=True)
class Opened:
    """The call is taken.

    Attributes:
        credit_bytes: how much of the caller's audio may be sent before the first CREDIT.
        attached: the session goes on; its memory follows.
        position_samples: of an attached one: the position that the audio which follows is to have.
    """

    kind: ClassVar[Kind] = Kind.OPENED
    credit_bytes: int = 0
    attached: bool = False
    position_samples: int = 0


@dataclass(frozen=True, slots=True)
class Attach:
    """Go on with this channel, of which so many records have been received."""

    kind: ClassVar[Kind] = Kind.ATTACH
    uuid: str = ""
    epoch: int = 0
    received: int = 0


@dataclass(frozen=True, slots=True)
class Attached:
    """The channel goes on; so many records of it have been received."""

    kind: ClassVar[Kind] = Kind.ATTACHED
    received: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """The call is not taken; `epoch` is the one that the worker knows, for a stale one."""

    kind: ClassVar[Kind] = Kind.REFUSED
    reason: str = ""
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Ready:
    """The Realtime session is up; `standby`: it waits for the call, and is to be told to go on."""

    kind: ClassVar[Kind] = Kind.READY
    standby: bool = False


@dataclass(frozen=True, slots=True)
class Close:
    """Let go of the call.

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
        message: for AVR Core, where it failed.
    """

    kind: ClassVar[Kind] = Kind.ENDED
    outcome: str = Outcome.COMPLETED.value
    message: str = ""


@dataclass(frozen=True, slots=True)
class Move:
    """Please move the call to another session.

    Attributes:
        reason: a `Reason`.
        seconds: within this time.
    """

    kind: ClassVar[Kind] = Kind.MOVE
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Release:
    """Let go of the call at the next quiet moment, at the latest after so many seconds; RELEASED answers.

    `revoked`: not at the next quiet moment after all, as the other session does not stand by any more.
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
    """A change of the caller's waiting, for a dispatcher whose OPEN said `filler`.

    Attributes:
        waiting: an answer is owed or a tool runs, and the caller is not speaking.
    """

    kind: ClassVar[Kind] = Kind.AWAITING
    waiting: bool = False

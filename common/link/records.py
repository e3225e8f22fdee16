"""The records of a link, as values: see `common/link/wire.py` for what they mean and how they travel."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, ClassVar


class Kind(IntEnum):
    """What a record is. Numbers are part of the protocol and are never used again for another meaning."""

    HELLO = 1
    OPEN = 2
    OPENED = 3
    REFUSED = 4
    READY = 5
    CALLER_AUDIO = 6
    REPLY_ITEM = 7
    REPLY_AUDIO = 8
    REPLY_ITEM_DONE = 9
    FLUSH = 10
    HEARD = 11
    PLAYOUT = 12
    TRANSCRIPT = 13
    FINISHED = 14
    CREDIT = 15
    CLOSE = 16
    ENDED = 17
    DTMF = 18
    TELEPHONY_COMMAND = 19
    TELEPHONY_DONE = 20
    COMMAND = 21
    RESULT = 22
    EVENT = 23
    ATTACH = 24
    ATTACHED = 25
    ACK = 26
    REPLY_TEXT = 27
    KEYED = 28
    TOOL = 29
    TOOL_KNOWN = 30
    PROFILE = 31
    ITEM_UPDATE = 32
    PENDING_REPLIES = 33
    KEPT_AUDIO = 34
    RESUME = 35
    MOVE = 36
    RELEASE = 37
    RELEASED = 38
    AWAITING = 39
    # From 64 on: of the link itself, before it is up.
    PROOF = 64


UNCOUNTED = frozenset({Kind.HELLO, Kind.OPEN, Kind.REFUSED, Kind.ATTACH, Kind.ATTACHED, Kind.ACK})
"""Records that belong to no channel's stream: see `common/link/retransmit_buffer.py`."""


class Refusal(StrEnum):
    """Why a worker does not take a call."""

    FULL = "full"
    DRAINING = "draining"
    STALE_EPOCH = "stale_epoch"
    UNKNOWN = "unknown"
    INVALID = "invalid"


class TelephonyAction(StrEnum):
    """What a dispatcher can be told to do with a call."""

    HANG_UP = "hang_up"
    TRANSFER = "transfer"


class Reason(StrEnum):
    """Why a call gets another session; the values of metrics' labels."""

    DROPPED = "dropped"
    ROLLOVER = "rollover"
    DRAIN = "drain"
    WORKER_LOST = "worker_lost"


class Outcome(StrEnum):
    """How a session ended, as it is counted."""

    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Hello:
    """The first record of each side; `challenge` is empty where CLUSTER_TOKEN is not set."""

    kind: ClassVar[Kind] = Kind.HELLO
    protocol: int = 0
    release: str = ""
    role: str = ""
    id: str = ""
    boot_id: str = ""
    challenge: str = ""


@dataclass(frozen=True, slots=True)
class Proof:
    """That the sender knows CLUSTER_TOKEN.

    Attributes:
        former: proofs by tokens that were replaced a moment ago: the other side may not have the new one yet.
    """

    kind: ClassVar[Kind] = Kind.PROOF
    proof: str = field(default="", repr=False)
    former: tuple[str, ...] = field(default=(), repr=False)


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
class ReplyItem:
    """From now on `index` stands for this item in the channel's audio records."""

    kind: ClassVar[Kind] = Kind.REPLY_ITEM
    index: int = 0
    item_id: str = ""


@dataclass(frozen=True, slots=True)
class ReplyItemDone:
    """The item has no more samples."""

    kind: ClassVar[Kind] = Kind.REPLY_ITEM_DONE
    index: int = 0


@dataclass(frozen=True, slots=True)
class Flush:
    """Barge-in. HEARD brings the number back."""

    kind: ClassVar[Kind] = Kind.FLUSH
    number: int = 0


@dataclass(frozen=True, slots=True)
class ItemHeard:
    """How much of an item the caller has heard, in samples at 8 kHz."""

    index: int = 0
    samples: int = 0


@dataclass(frozen=True, slots=True)
class Heard:
    """The answer to FLUSH: the items that were cut, with what was heard of them, oldest first."""

    kind: ClassVar[Kind] = Kind.HEARD
    number: int = 0
    items: tuple[ItemHeard, ...] = ()


@dataclass(frozen=True, slots=True)
class Playout:
    """How far the playout is.

    Attributes:
        items: items of which something was played since the last report, oldest first.
        idle: all that was sent has been played.
        queued: what AVR Core has been given of each item that it has not played to the end, oldest first.
        age_seconds: how long ago it was so (towards a new dispatcher).
    """

    kind: ClassVar[Kind] = Kind.PLAYOUT
    items: tuple[ItemHeard, ...] = ()
    idle: bool = False
    queued: tuple[ItemHeard, ...] = ()
    age_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said; `role` is `user` or `agent`."""

    kind: ClassVar[Kind] = Kind.TRANSCRIPT
    item_id: str = ""
    role: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Finished:
    """The caller's audio before `position_samples` is known as text, or is silence.

    Attributes:
        position_samples: in the call, at 8 kHz.
        speaking: the caller is saying something.
    """

    kind: ClassVar[Kind] = Kind.FINISHED
    position_samples: int = 0
    speaking: bool = False


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
class Dtmf:
    """One key."""

    kind: ClassVar[Kind] = Kind.DTMF
    digit: str = ""


@dataclass(frozen=True, slots=True)
class TelephonyCommand:
    """Do this on Asterisk when all that was sent before it has been heard, even if the worker is gone by then.

    Attributes:
        id: of the function call that wants it; ORDER_DONE brings it back. An order is carried out once.
        action: an `TelephonyAction`.
        extension, context, priority: of a transfer.
    """

    kind: ClassVar[Kind] = Kind.TELEPHONY_COMMAND
    id: str = ""
    action: str = ""
    extension: str = ""
    context: str = ""
    priority: str = ""


@dataclass(frozen=True, slots=True)
class TelephonyDone:
    """What avr-ami said to an order."""

    kind: ClassVar[Kind] = Kind.TELEPHONY_DONE
    id: str = ""
    ok: bool = False
    message: str = ""


@dataclass(frozen=True, slots=True)
class Keyed:
    """So many of the keys that were sent are part of the conversation."""

    kind: ClassVar[Kind] = Kind.KEYED
    digits: int = 0


@dataclass(frozen=True, slots=True)
class Tool:
    """The tool of this function call is about to run."""

    kind: ClassVar[Kind] = Kind.TOOL
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class ToolKnown:
    """That it runs is known: it may."""

    kind: ClassVar[Kind] = Kind.TOOL_KNOWN
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class Profile:
    """The call's settings, as only workers understand them.

    Attributes:
        record: what may be stored.
        secrets: what may not.
    """

    kind: ClassVar[Kind] = Kind.PROFILE
    record: dict[str, Any] = field(default_factory=dict, repr=False)
    secrets: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class ItemUpdate:
    """An item of the conversation, as only workers understand it; it takes the place of what was known of it.

    Attributes:
        item_id: of the item.
        after: the item that it follows; empty: it is the first. A known item stays where it is.
        forgotten: the item is not part of the conversation any more.
        settled: of a reply: what the caller has heard of it is known, and part of the item.
        item: what it is.
        sound: of a turn of the caller's whose text will not come: mu-law in base64. It is not for Redis.
    """

    kind: ClassVar[Kind] = Kind.ITEM_UPDATE
    item_id: str = ""
    after: str = ""
    forgotten: bool = False
    settled: bool = False
    item: dict[str, Any] = field(default_factory=dict, repr=False)
    sound: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply item that the caller may still be hearing.

    Attributes:
        index: its number in audio records.
        item_id: of the item.
        text: as far as it is known.
        received_samples: at 8 kHz: what the worker had of it, and `text` belongs to.
        sent_samples: what came of it to the dispatcher.
        done: that was all of it.
        heard_samples: what the caller has heard of it.
        cut: nor will the caller hear more of it: a barge-in has cut it.
    """

    index: int = 0
    item_id: str = ""
    text: str = field(default="", repr=False)
    received_samples: int = 0
    sent_samples: int = 0
    done: bool = False
    heard_samples: int = 0
    cut: bool = False


@dataclass(frozen=True, slots=True)
class PendingReplies:
    """The replies that are not settled, oldest first."""

    kind: ClassVar[Kind] = Kind.PENDING_REPLIES
    replies: tuple[Reply, ...] = ()


@dataclass(frozen=True, slots=True)
class Resume:
    """The memory is whole.

    Attributes:
        reason: a `Reason`; empty where the call only begins.
        standby: bring the memory to a session and wait: the memory comes again when the session is to go on.
        orders: orders that the dispatcher knows of, carried out or not.
        digits: keys that were pressed and are not part of the conversation yet.
        speaking: the caller was saying something.
        recalled: the memory comes from Redis: of replies it is not known what was heard.
        first_index: the numbers of reply items begin here now: since OPEN another session may have used some.
        words_lost: the caller was saying something that began before this dispatcher had the call: there is
            neither text nor audio of it.
    """

    kind: ClassVar[Kind] = Kind.RESUME
    reason: str = ""
    standby: bool = False
    orders: tuple[str, ...] = ()
    digits: str = ""
    speaking: bool = False
    recalled: bool = False
    first_index: int = 0
    words_lost: bool = False


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


@dataclass(frozen=True, slots=True)
class Command:
    """The calls API wants something of a call: RESULT answers by number, EVENTs too where it watches."""

    kind: ClassVar[Kind] = Kind.COMMAND
    number: int = 0
    uuid: str = ""
    action: str = ""
    body: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to a command, as an HTTP status and a JSON body."""

    kind: ClassVar[Kind] = Kind.RESULT
    number: int = 0
    status: int = 0
    body: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened in a call; without a body: nothing more will."""

    kind: ClassVar[Kind] = Kind.EVENT
    number: int = 0
    body: dict[str, Any] = field(default_factory=dict)


Control = (
    Hello
    | Proof
    | Open
    | Opened
    | Attach
    | Attached
    | Refused
    | Ready
    | ReplyItem
    | ReplyItemDone
    | Flush
    | Heard
    | Playout
    | Transcript
    | Finished
    | Close
    | Ended
    | Dtmf
    | TelephonyCommand
    | TelephonyDone
    | Keyed
    | Tool
    | ToolKnown
    | Profile
    | ItemUpdate
    | PendingReplies
    | Resume
    | Move
    | Release
    | Released
    | Awaiting
    | Command
    | Result
    | Event
)

"""The records of a call's memory: the state that a worker restores in another session."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from common.link.kinds import Kind


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
class Keyed:
    """So many of the keys that were sent are part of the conversation."""

    kind: ClassVar[Kind] = Kind.KEYED
    digits: int = 0

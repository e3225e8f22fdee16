"""The records of a call's memory: the state that a worker restores in another session.

Some fields have another name in JSON, which protocol 2 has fixed. Their metadata has it as `JSON_NAME`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from common.link.kinds import Kind

# The key in a field's metadata for its name in JSON.
JSON_NAME = "json"


@dataclass(frozen=True, slots=True)
class Profile:
    """The call's settings, which only workers understand, and its tenant, which dispatchers count by.

    Attributes:
        record: the part that may be stored.
        secrets: the part that must not be stored.
        tenant: of the call, from a worker; empty: there are no tenants.
    """

    kind: ClassVar[Kind] = Kind.PROFILE
    record: dict[str, Any] = field(default_factory=dict, repr=False)
    secrets: dict[str, Any] = field(default_factory=dict, repr=False)
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class ItemUpdate:
    """An item of the conversation, which only workers understand; it replaces the former state of the item.

    Attributes:
        item_id: of the item.
        after: the id of the item before it; empty for the first one. A known item keeps its place.
        deleted: the item is no longer part of the conversation.
        settled: of a reply: the heard part is known, and is part of the item.
        item: the item itself.
        sound: of a turn whose text will not come: its audio as mu-law in base64. Never written to Redis.
    """

    kind: ClassVar[Kind] = Kind.ITEM_UPDATE
    item_id: str = ""
    after: str = ""
    deleted: bool = field(default=False, metadata={JSON_NAME: "forgotten"})
    settled: bool = False
    item: dict[str, Any] = field(default_factory=dict, repr=False)
    sound: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply item that the caller may still be hearing.

    Attributes:
        index: its index in audio records.
        item_id: of the item.
        text: the text received so far.
        received_samples: samples (8 kHz) that the worker has, to which `text` belongs.
        sent_samples: samples that the dispatcher has.
        done: the item is complete.
        heard_samples: samples that the caller has heard.
        truncated: the item was truncated by a barge-in, so the caller will hear no more of it.
    """

    index: int = 0
    item_id: str = ""
    text: str = field(default="", repr=False)
    received_samples: int = 0
    sent_samples: int = 0
    done: bool = False
    heard_samples: int = 0
    truncated: bool = field(default=False, metadata={JSON_NAME: "cut"})


@dataclass(frozen=True, slots=True)
class PendingReplies:
    """The replies that are not settled, oldest first."""

    kind: ClassVar[Kind] = Kind.PENDING_REPLIES
    replies: tuple[Reply, ...] = ()


@dataclass(frozen=True, slots=True)
class Resume:
    """The memory is complete; restore it in a session.

    Attributes:
        reason: a `Reason`; empty for a new call.
        standby: restore the memory and wait; the memory is sent again when the session is to take over.
        known_commands: ids of telephony commands that the dispatcher knows, executed or not.
        digits: keys that were pressed and are not part of the conversation yet.
        speaking: the caller was speaking.
        recalled: the memory comes from Redis, so the heard parts of replies are unknown.
        first_index: first index of new reply items; another session may have used some since OPEN.
        words_lost: the caller was speaking when this dispatcher took the call. The beginning is lost: neither
            its text nor its audio is known.
    """

    kind: ClassVar[Kind] = Kind.RESUME
    reason: str = ""
    standby: bool = False
    known_commands: tuple[str, ...] = field(default=(), metadata={JSON_NAME: "orders"})
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
    """The dispatcher has recorded that the tool runs, so the tool may run."""

    kind: ClassVar[Kind] = Kind.TOOL_KNOWN
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class Keyed:
    """The number of sent keys that are part of the conversation."""

    kind: ClassVar[Kind] = Kind.KEYED
    digits: int = 0

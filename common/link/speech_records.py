"""The records of speech: reply items, playout, barge-in and transcripts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from common.link.kinds import Kind


@dataclass(frozen=True, slots=True)
class ReplyItem:
    """The index that stands for an item in the channel's audio records from now on."""

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
    """A barge-in: drop unsent audio. HEARD repeats the number."""

    kind: ClassVar[Kind] = Kind.FLUSH
    number: int = 0


@dataclass(frozen=True, slots=True)
class ItemHeard:
    """The part of an item that the caller has heard, in samples at 8 kHz."""

    index: int = 0
    samples: int = 0


@dataclass(frozen=True, slots=True)
class Heard:
    """The answer to FLUSH: the truncated items with their heard parts, oldest first."""

    kind: ClassVar[Kind] = Kind.HEARD
    number: int = 0
    items: tuple[ItemHeard, ...] = ()


@dataclass(frozen=True, slots=True)
class Playout:
    """The position of the playout.

    Attributes:
        items: items whose position has changed since the last report, oldest first.
        idle: all sent audio has been played.
        queued: samples of each item that AVR Core has, for items that are not played to the end, oldest first.
        age_seconds: age of this report, for a new dispatcher.
    """

    kind: ClassVar[Kind] = Kind.PLAYOUT
    items: tuple[ItemHeard, ...] = ()
    idle: bool = False
    queued: tuple[ItemHeard, ...] = ()
    age_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Transcript:
    """A transcript of an item; `role` is `user` or `agent`."""

    kind: ClassVar[Kind] = Kind.TRANSCRIPT
    item_id: str = ""
    role: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Finished:
    """The caller's audio before `position_samples` has a transcript, or is silence.

    Attributes:
        position_samples: position in the call, at 8 kHz.
        speaking: the caller is speaking.
    """

    kind: ClassVar[Kind] = Kind.FINISHED
    position_samples: int = 0
    speaking: bool = False

"""The records of speech: reply items, playout, barge-in and transcripts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from common.link.kinds import Kind


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

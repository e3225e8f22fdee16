"""What was said in a call: its items in conversation order, and the transcripts that are due from them.

Transcription runs beside the model, so texts come late, out of order, or never; the order of items is that of
`previous_item_id`. A transcript goes to AVR Core once per item, in this order, and for the agent only with
what the caller heard of it.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from common.link import wire

# Who waits behind a caller's transcript waits so long and no longer.
TRANSCRIPT_WAIT_SECONDS = 3.0
# A word is what stands between spaces; Chinese and Japanese have none, so there it is a character.
_WORD = re.compile(r"[\u2e80-\u9fff\uf900-\ufaff]|[^\s\u2e80-\u9fff\uf900-\ufaff]+")


class Role(StrEnum):
    """Who spoke, in the words of AVR's `transcript` message."""

    USER = "user"
    AGENT = "agent"


class ItemKind(StrEnum):
    """What an item is, in the API's words."""

    MESSAGE = "message"
    FUNCTION_CALL = "function_call"
    FUNCTION_CALL_OUTPUT = "function_call_output"


@dataclass(slots=True)
class Item:
    """One item of the conversation.

    Attributes:
        kind: what it is.
        call_id, name: of a function call and its output.
        role: None for items that nobody spoke (function calls and their outputs, text that we put in).
        text: the transcript so far; a function call's arguments, or its output.
        text_done: nothing more will be added to the text.
        heard_share: how much of an agent's item the caller heard, 0 to 1; None while it is playing.
        waits_until_seconds: until when a caller's transcript holds up those behind it.
        reported: its transcript went out, or never will.
        started: a function call may have begun to run.
        runs: how often it may have begun.
        silent: nobody waits for what the model makes of an output.
        span: of a caller's turn: where in the call its audio is, in samples at 8 kHz; None: not known.
        sound: of a caller's turn whose text will not come: mu-law.
        left_out: the model is not told of it any more: the conversation is too long for it.
        by_system: text that we put in as a system message, and not in the caller's place.
    """

    item_id: str
    role: Role | None
    text: str = ""
    text_done: bool = False
    heard_share: float | None = None
    waits_until_seconds: float = float("inf")
    reported: bool = False
    kind: ItemKind = ItemKind.MESSAGE
    call_id: str = ""
    name: str = ""
    started: bool = False
    runs: int = 0
    silent: bool = False
    span: tuple[int, int] | None = None
    sound: bytes = b""
    left_out: bool = False
    by_system: bool = False

    def to_record(self) -> dict[str, Any]:
        """As it is remembered, JSON: what is not said is the default."""
        fields: dict[str, Any] = {
            "kind": self.kind.value,
            "role": self.role.value if self.role else None,
            "text": self.text,
            "text_done": self.text_done,
            "heard_share": self.heard_share,
            "reported": self.reported,
            "call_id": self.call_id,
            "name": self.name,
            "started": self.started,
            "runs": self.runs,
            "silent": self.silent,
            "span": list(self.span) if self.span else None,
            "left_out": self.left_out,
            "by_system": self.by_system,
        }
        return {name: value for name, value in fields.items() if value not in (None, "", False)}

    @classmethod
    def from_record(cls, item_id: str, record: dict[str, Any]) -> Self:
        """The item again. Fields of a newer release are passed over.

        Raises:
            TypeError, ValueError: the record is not one.
        """
        role, share, span = record.get("role"), record.get("heard_share"), record.get("span")
        return cls(
            item_id,
            None if role is None else Role(role),
            text=str(record.get("text", "")),
            text_done=bool(record.get("text_done")),
            heard_share=None if share is None else float(share),
            reported=bool(record.get("reported")),
            kind=ItemKind(record.get("kind", ItemKind.MESSAGE)),
            call_id=str(record.get("call_id", "")),
            name=str(record.get("name", "")),
            started=bool(record.get("started")),
            # The release before this one does not count.
            runs=_number(record.get("runs", int(bool(record.get("started"))))),
            silent=bool(record.get("silent")),
            span=None if span is None else (_number(span[0]), _number(span[1])),
            left_out=bool(record.get("left_out")),
            by_system=bool(record.get("by_system")),
        )

    @property
    def heard_text(self) -> str:
        """The text as far as it was heard; see `heard_part`."""
        return self.text if self.heard_share is None else heard_part(self.text, self.heard_share)


def _number(value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value <= wire.MAX_NUMBER:
        raise ValueError("a number is out of range")
    return value


def heard_part(text: str, share: float) -> str:
    """The beginning of a spoken text that corresponds to a share of its sound, cut back to whole words.

    The API gives no word timing, so text is taken to be spread evenly over the audio.
    """
    if share >= 1.0:
        return text
    end = 0
    for word in _WORD.finditer(text):
        if word.end() > len(text) * share:
            break
        end = word.end()
    return text[:end]


class Conversation:
    """The items of one call, in order.

    Who changes an item says so with `changed`; `take_changes` is what the dispatcher is to remember.
    """

    def __init__(self) -> None:
        self._changed: dict[str, None] = {}
        self._items: dict[str, Item] = {}
        self._order: list[str] = []
        # Items before this place have had their say; a call of an hour is looked through only at its end.
        self._first_open = 0

    def __iter__(self) -> Iterator[Item]:
        return map(self._items.__getitem__, self._order)

    def __len__(self) -> int:
        return len(self._order)

    def get(self, item_id: str) -> Item | None:
        """The item, if it is known."""
        return self._items.get(item_id)

    def insert(self, item_id: str, role: Role | None, previous_item_id: str | None) -> Item:
        """Add an item behind another one; at the end if that is unknown. A known item stays where it is."""
        known = self._items.get(item_id)
        if known is not None:
            return known
        place = len(self._order)
        if previous_item_id in self._items:
            place = self._order.index(previous_item_id) + 1
        behind = (self._items[other] for other in self._order[place:])
        # If one behind it has had its say, it is too late: the order is a promise.
        too_late = any(other.reported and other.role is not None for other in behind)
        item = Item(item_id, role, reported=role is None or too_late)
        self._items[item_id] = item
        self._changed[item_id] = None
        self._order.insert(place, item_id)
        self._first_open = min(self._first_open, place)
        return item

    def changed(self, item: Item) -> None:
        """The item is another than the one that is remembered."""
        self._changed[item.item_id] = None

    def take_changes(self) -> list[wire.ItemUpdate]:
        """What has changed since the last time, in the order in which it did."""
        if not self._changed:
            return []
        changed, self._changed = self._changed, {}
        return [self._to_remember(item_id) for item_id in changed]

    def everything(self) -> list[wire.ItemUpdate]:
        """All items, in order; nothing has changed after it."""
        self._changed.clear()
        return [self._to_remember(item_id) for item_id in self._order]

    def load(self, records: list[wire.ItemUpdate]) -> None:
        """Put what is remembered in the place of all that is here. What is no item is left out."""
        self._items.clear()
        self._order.clear()
        self._changed.clear()
        self._first_open = 0
        for record in records:
            try:
                item = Item.from_record(record.item_id, record.item)
                item.sound = binascii.a2b_base64(record.sound)
            except (TypeError, ValueError, LookupError):
                continue
            if item.item_id not in self._items:
                self._order.append(item.item_id)
            self._items[item.item_id] = item

    def last(self) -> Item | None:
        """The last item."""
        return self._items[self._order[-1]] if self._order else None

    def _to_remember(self, item_id: str) -> wire.ItemUpdate:
        item = self._items.get(item_id)
        if item is None:
            return wire.ItemUpdate(item_id, deleted=True)
        place = self._order.index(item_id)
        after = self._order[place - 1] if place else ""
        settled = item.role is not Role.AGENT or item.heard_share is not None
        sound = binascii.b2a_base64(item.sound, newline=False).decode()
        return wire.ItemUpdate(item_id, after, settled=settled, item=item.to_record(), sound=sound)

    def as_json(self) -> list[dict[str, str]]:
        """What was said and done so far, for people: of the agent only what was heard."""
        shown = []
        for item in self:
            if item.kind is ItemKind.MESSAGE:
                if item.role is not None or item.text:
                    shown.append({"role": item.role.value if item.role else "user", "text": item.heard_text})
            else:
                shown.append({"type": item.kind.value, "name": item.name, "text": item.text})
        return shown

    def open_replies(self) -> list[Item]:
        """The agent's items that are still being spoken."""
        items = [self._items[item_id] for item_id in self._order[self._first_open :]]
        return [item for item in items if item.role is Role.AGENT and not item.text_done]

    def remove(self, item_id: str) -> None:
        """Forget an item: it was deleted from the session too."""
        if self._items.pop(item_id, None) is not None:
            self._changed[item_id] = None
            place = self._order.index(item_id)
            del self._order[place]
            if place < self._first_open:
                self._first_open -= 1

    def due_transcripts(self, now_seconds: float) -> list[Item]:
        """Items whose transcript is to go out now, in order; each is returned once.

        A caller's text that did not come in time lets those behind it pass, and if they have, it is too late:
        the order is a promise.
        """
        due: list[Item] = []
        skipped: list[Item] = []
        for place in range(self._first_open, len(self._order)):
            item = self._items[self._order[place]]
            if item.reported:
                continue
            ready = item.text_done and (item.role is Role.USER or item.heard_share is not None)
            if ready:
                for passed in (*skipped, item):
                    passed.reported = True
                    self._changed[passed.item_id] = None
                skipped.clear()
                if item.heard_text:
                    due.append(item)
            elif item.role is Role.USER and now_seconds >= item.waits_until_seconds:
                skipped.append(item)
            else:
                break
        while self._first_open < len(self._order) and self._items[self._order[self._first_open]].reported:
            self._first_open += 1
        return due

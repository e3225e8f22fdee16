"""The conversation of a call: its items in order, and the transcripts that are due.

The API transcribes in parallel with the model, so texts arrive late, out of order, or never. `previous_item_id`
gives the order of the items. AVR Core gets each transcript once, in this order. An agent's transcript has only the
part that the caller heard.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from common.link import wire

# Maximum time a late caller transcript may delay later ones.
TRANSCRIPT_WAIT_SECONDS = 3.0
# A word stands between spaces. Chinese and Japanese have no spaces, so each character counts as a word.
_WORD = re.compile(r"[\u2e80-\u9fff\uf900-\ufaff]|[^\s\u2e80-\u9fff\uf900-\ufaff]+")


class Role(StrEnum):
    """Speaker of an item, by its name in AVR's `transcript` message."""

    USER = "user"
    AGENT = "agent"


class ItemKind(StrEnum):
    """Kind of an item, by its name at the API."""

    MESSAGE = "message"
    FUNCTION_CALL = "function_call"
    FUNCTION_CALL_OUTPUT = "function_call_output"


@dataclass(slots=True)
class Item:
    """One item of the conversation.

    Attributes:
        kind: kind of the item.
        call_id, name: id and name of a function call, also in its output.
        role: speaker; None for items without speech: function calls, their outputs, and notes of this service.
        text: the transcript so far; a function call's arguments, or its output.
        text_done: the text is complete.
        heard_share: share of an agent's item that the caller heard, 0 to 1; None while the item is playing.
        waits_until_seconds: time until which a caller's missing transcript delays later ones.
        reported: the transcript was sent, or will not be sent.
        started: a function call may have begun to run.
        runs: number of times that a function call may have begun to run.
        silent: the model need not answer this output.
        span: position of a caller's turn in the call, in samples at 8 kHz; None: unknown.
        sound: audio (mu-law) of a caller's turn that gets no transcript.
        left_out: the item was removed from the API's conversation, which was too long for the model.
        by_system: a note that is a system message, and not a message of the user.
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
        """Return the item as JSON for the call's memory; omit fields that have their default."""
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
        """Return the item of a record; ignore fields of a newer release.

        Raises:
            TypeError, ValueError: the record is invalid.
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
            # The previous release does not count the runs.
            runs=_number(record.get("runs", int(bool(record.get("started"))))),
            silent=bool(record.get("silent")),
            span=None if span is None else (_number(span[0]), _number(span[1])),
            left_out=bool(record.get("left_out")),
            by_system=bool(record.get("by_system")),
        )

    @property
    def is_shown(self) -> bool:
        """Whether the item is part of the conversation as people see it; `as_json` leaves out the others."""
        return self.kind is not ItemKind.MESSAGE or self.role is not None or bool(self.text)

    @property
    def heard_text(self) -> str:
        """Return the text that the caller heard; see `heard_part`."""
        return self.text if self.heard_share is None else heard_part(self.text, self.heard_share)


def _number(value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value <= wire.MAX_NUMBER:
        raise ValueError("a number is out of range")
    return value


def heard_part(text: str, share: float) -> str:
    """Return the first words of a spoken text, for a share of its audio.

    The API gives no times of words, so the text counts as evenly spread over the audio.
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

    Code that changes an item must call `changed`. `take_changes` returns the changed items for the dispatcher.
    """

    def __init__(self) -> None:
        self._changed: dict[str, None] = {}
        self._items: dict[str, Item] = {}
        self._order: list[str] = []
        # All items before this place are reported, so a long conversation is searched only near its end.
        self._first_open = 0

    def __iter__(self) -> Iterator[Item]:
        return map(self._items.__getitem__, self._order)

    def __len__(self) -> int:
        return len(self._order)

    def get(self, item_id: str) -> Item | None:
        """Return the item with this id; None: it is unknown."""
        return self._items.get(item_id)

    def insert(self, item_id: str, role: Role | None, previous_item_id: str | None) -> Item:
        """Add an item after another one, or at the end if that is unknown. A known item keeps its place."""
        known = self._items.get(item_id)
        if known is not None:
            return known
        place = len(self._order)
        if previous_item_id in self._items:
            place = self._order.index(previous_item_id) + 1
        behind = (self._items[other] for other in self._order[place:])
        # A transcript must not follow one of a later item, so this item gets none.
        too_late = any(other.reported and other.role is not None for other in behind)
        item = Item(item_id, role, reported=role is None or too_late)
        self._items[item_id] = item
        self._changed[item_id] = None
        self._order.insert(place, item_id)
        self._first_open = min(self._first_open, place)
        return item

    def changed(self, item: Item) -> None:
        """Mark an item as changed since it was last reported."""
        self._changed[item.item_id] = None

    def take_changes(self) -> list[wire.ItemUpdate]:
        """Return the items that changed since the last call, in the order of their changes."""
        if not self._changed:
            return []
        changed, self._changed = self._changed, {}
        return [self._to_update(item_id) for item_id in changed]

    def everything(self) -> list[wire.ItemUpdate]:
        """Return all items in order, and mark all as reported."""
        self._changed.clear()
        return [self._to_update(item_id) for item_id in self._order]

    def load(self, records: list[wire.ItemUpdate]) -> None:
        """Replace the conversation with these records; skip invalid ones."""
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
        """Return the last item; None: there is no item."""
        return self._items[self._order[-1]] if self._order else None

    def _to_update(self, item_id: str) -> wire.ItemUpdate:
        item = self._items.get(item_id)
        if item is None:
            return wire.ItemUpdate(item_id, deleted=True)
        place = self._order.index(item_id)
        after = self._order[place - 1] if place else ""
        settled = item.role is not Role.AGENT or item.heard_share is not None
        sound = binascii.b2a_base64(item.sound, newline=False).decode()
        return wire.ItemUpdate(item_id, after, settled=settled, item=item.to_record(), sound=sound)

    def as_json(self) -> list[dict[str, str]]:
        """Return the conversation for people; agents' texts have only the heard part."""
        shown = []
        for item in self:
            if not item.is_shown:
                continue
            if item.kind is ItemKind.MESSAGE:
                shown.append({"role": item.role.value if item.role else "user", "text": item.heard_text})
            else:
                shown.append({"type": item.kind.value, "name": item.name, "text": item.text})
        return shown

    def open_replies(self) -> list[Item]:
        """Return the agent's items whose text is not complete."""
        items = [self._items[item_id] for item_id in self._order[self._first_open :]]
        return [item for item in items if item.role is Role.AGENT and not item.text_done]

    def remove(self, item_id: str) -> None:
        """Delete an item."""
        if self._items.pop(item_id, None) is not None:
            self._changed[item_id] = None
            place = self._order.index(item_id)
            del self._order[place]
            if place < self._first_open:
                self._first_open -= 1

    def due_transcripts(self, now_seconds: float) -> list[Item]:
        """Return items whose transcript is due, in order, each item once.

        A caller's transcript that is too late no longer delays later ones. Once a later transcript is sent, the
        late one is dropped, because transcripts keep the conversation's order.
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

"""Memory of a call: its settings, its conversation, and the replies that are not finished.

The worker reports settings, items and replies (PROFILE, ITEM_UPDATE, REPLY_TEXT and others). The dispatcher holds
the caller, so it outlives the worker: it keeps the memory, and gives it to the next worker. It does not interpret
settings and items.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

import orjson

from common.link import wire
from common.link.wire import Control
from common.net import json_depth
from common.net.json_depth import MAX_RECORD_LEVELS, is_too_deep

# Maximum size of the items; the oldest are dropped first. The context of a model (128k tokens) is smaller.
MAX_ITEMS: Final = 1000
MAX_BYTES: Final = 1024 * 1024
# Maximum replies without a settled heard part. A worker that leaves more is faulty.
MAX_REPLIES: Final = 256
# Characters of their text: however many of them have to be escaped, they fit into one record.
MAX_REPLY_CHARS: Final = 128 * 1024


@dataclass(frozen=True, slots=True)
class _Item:
    item: dict[str, Any]
    sound: str
    size_bytes: int


@dataclass(slots=True)
class _Reply:
    item_id: str
    text: list[str] = field(default_factory=list)
    text_chars: int = 0
    received_samples: int = 0
    sent_samples: int = 0
    done: bool = False
    heard_samples: int = 0
    truncated: bool = False


class CallMemory:
    """Memory of one call.

    Attributes:
        profile: the call's settings; None until the worker has reported them.
        next_index: number of the next reply item.
        is_recalled: the memory comes from Redis, and no session has continued from it yet.
    """

    def __init__(
        self, *, max_items: int = MAX_ITEMS, max_bytes: int = MAX_BYTES, max_reply_chars: int = MAX_REPLY_CHARS
    ) -> None:
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._max_reply_chars = max_reply_chars
        self.profile: wire.Profile | None = None
        self.next_index = 0
        self.is_recalled = False
        # Ids of items that the copy in Redis does not have.
        self._changed: set[str] = set()
        self._profile_changed = False
        self._is_stored = False
        self._items: dict[str, _Item] = {}
        self._order: list[str] = []
        self._bytes = 0
        self._replies: dict[int, _Reply] = {}

    def __len__(self) -> int:
        return len(self._order)

    @property
    def is_empty(self) -> bool:
        """Whether the memory is too empty for another worker to continue the call."""
        return self.profile is None and not self._order

    def keep_profile(self, profile: wire.Profile) -> None:
        """Keep the call's settings."""
        self.profile = profile
        self._profile_changed = True

    def remember(self, record: wire.ItemUpdate, size_bytes: int) -> None:
        """Add, replace or remove an item."""
        item_id = record.item_id
        self._changed.add(item_id)
        known = self._items.get(item_id)
        if record.settled or record.deleted:
            self._settle(item_id)
        if record.deleted:
            if known is not None:
                self._forget(item_id)
            return
        self._items[item_id] = _Item(record.item, record.sound, size_bytes)
        self._bytes += size_bytes - (known.size_bytes if known is not None else 0)
        if known is None:
            self._insert(item_id, record.after)
        while len(self._order) > self._max_items or (self._bytes > self._max_bytes and len(self._order) > 1):
            self._changed.add(self._order[0])
            self._forget(self._order[0])

    def item(self, item_id: str) -> dict[str, Any] | None:
        """Return an item as the worker gave it; None if it is unknown."""
        known = self._items.get(item_id)
        return None if known is None else known.item

    @property
    def order(self) -> list[str]:
        """Ids of the items, in the order of the conversation."""
        return list(self._order)

    # Replies

    @property
    def is_replying(self) -> bool:
        """Whether a reply has begun, is not complete, and was not interrupted."""
        return any(not reply.done and not reply.truncated for reply in self._replies.values())

    def reply_began(self, index: int, item_id: str) -> None:
        """Begin a reply: the number stands for this item from now on."""
        self._replies[index] = _Reply(item_id)
        self.next_index = max(self.next_index, index + 1)
        if len(self._replies) > MAX_REPLIES:
            del self._replies[next(iter(self._replies))]

    def reply_text(self, index: int, received_samples: int, text: str) -> None:
        """Add text to a reply, and note how much of its audio the worker has."""
        reply = self._replies.get(index)
        if reply is not None:
            self._add_text(reply, text)
            reply.received_samples = received_samples

    def reply_audio(self, index: int, samples: int) -> None:
        """Note that audio of a reply has come."""
        reply = self._replies.get(index)
        if reply is not None:
            reply.sent_samples += samples

    def reply_done(self, index: int) -> None:
        """Note that a reply has no more audio."""
        reply = self._replies.get(index)
        if reply is not None:
            reply.done = True

    def reply_heard(self, items: tuple[wire.ItemHeard, ...], *, truncated: bool = False) -> None:
        """Note the heard part of replies. The heard part of a truncated reply is final."""
        for item in items:
            reply = self._replies.get(item.index)
            if reply is not None:
                reply.heard_samples = item.samples
                reply.truncated = reply.truncated or truncated

    def restore_replies(self, replies: tuple[wire.Reply, ...]) -> None:
        """Take replies from a worker that had the call before this dispatcher."""
        for given in replies:
            self.reply_began(given.index, given.item_id)
            reply = self._replies[given.index]
            reply.done = given.done
            self._add_text(reply, given.text)
            reply.received_samples, reply.sent_samples = given.received_samples, given.sent_samples

    # For a worker that takes over

    def records(self) -> Iterator[Control]:
        """Yield the memory for a worker that takes the call over, in order."""
        if self.profile is not None:
            yield self.profile
        previous = ""
        for item_id in self._order:
            known = self._items[item_id]
            yield wire.ItemUpdate(item_id, previous, item=known.item, sound=known.sound)
            previous = item_id
        if self._replies:
            yield wire.PendingReplies(
                tuple(
                    wire.Reply(
                        index,
                        reply.item_id,
                        "".join(reply.text),
                        reply.received_samples,
                        reply.sent_samples,
                        reply.done,
                        reply.heard_samples,
                        reply.truncated,
                    )
                    for index, reply in self._replies.items()
                )
            )

    # The copy in Redis

    def copy_lost(self) -> None:
        """Note that Redis has lost the copy."""
        self._is_stored = False

    def take_changes(self) -> tuple[dict[str, str | None], bool] | None:
        """Return the changes that the copy in Redis lacks, without secrets and sound; None: none.

        The second value tells whether the changes are the whole memory.
        """
        anew = not self._is_stored
        if anew:
            self._changed = set(self._order)
            self._profile_changed = self.profile is not None
        if not self._changed and not self._profile_changed:
            return None
        fields: dict[str, str | None] = {}
        if self._profile_changed and self.profile is not None:
            fields["profile"] = orjson.dumps(self.profile.record).decode()
        if self._changed:
            fields["order"] = orjson.dumps(self._order).decode()
        for item_id in self._changed:
            known = self._items.get(item_id)
            fields[f"item:{item_id}"] = None if known is None else orjson.dumps(known.item).decode()
        self._changed = set()
        self._profile_changed = False
        self._is_stored = True
        return fields, anew

    @classmethod
    def from_stored(cls, fields: Mapping[str, str]) -> Self | None:
        """Return the memory of a copy; None where the copy is empty, or cannot be read."""
        memory = cls()
        try:
            if "profile" in fields:
                memory.profile = wire.Profile(_object(fields["profile"]))
            for item_id in map(str, json_depth.read(fields.get("order", "[]"))):
                stored = fields.get(f"item:{item_id}")
                if stored is not None and item_id not in memory._items:
                    memory._items[item_id] = _Item(_object(stored), "", len(stored))
                    memory._order.append(item_id)
                    memory._bytes += len(stored)
        except (ValueError, TypeError):
            return None
        memory.is_recalled = True
        return None if memory.is_empty else memory

    def _add_text(self, reply: _Reply, text: str) -> None:
        room = self._max_reply_chars - sum(each.text_chars for each in self._replies.values())
        if room > 0:
            reply.text.append(text[:room])
            reply.text_chars += min(len(text), room)

    def _settle(self, item_id: str) -> None:
        self._replies = {index: reply for index, reply in self._replies.items() if reply.item_id != item_id}

    def _insert(self, item_id: str, after: str) -> None:
        place = len(self._order)
        if not after:
            place = 0
        elif after in self._items and after != item_id:
            place = len(self._order) - self._order[::-1].index(after)
        self._order.insert(place, item_id)

    def _forget(self, item_id: str) -> None:
        self._bytes -= self._items.pop(item_id).size_bytes
        self._order.remove(item_id)


def _object(text: str) -> dict[str, Any]:
    value = orjson.loads(text)
    if not isinstance(value, dict) or is_too_deep(value, MAX_RECORD_LEVELS):
        raise TypeError("not an object, or nested too deeply")
    return value

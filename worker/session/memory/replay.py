"""Brings a conversation to a Realtime session that does not know it, and keeps it right there.

Replayed items are text, function calls and their outputs, and as sound those turns of the caller's whose text
never came. The API cannot truncate text, so a replayed reply that is cut afterwards is put there again.
"""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Callable
from typing import Any

from common.audio import g711
from worker.audio.audio_format import Uplink
from worker.audio.resample import SAMPLE_BYTES
from worker.session.action_queue import ActionQueue
from worker.session.memory.conversation import Conversation, Item, ItemKind, Role

# What the session has of an item that it made itself.
_OWN = ("own", "")
# The API takes ids of up to 32 characters.
MAX_ID_CHARS = 32


class Replay:
    """What one session has been told of its conversation."""

    def __init__(self, conversation: Conversation, outbox: ActionQueue, uplink: Callable[[], Uplink]) -> None:
        """Build it.

        Args:
            conversation: what the session is to know.
            outbox: takes the events.
            uplink: makes what codes audio for the session.
        """
        self._conversation = conversation
        self._outbox = outbox
        self._uplink = uplink
        self._told: dict[str, tuple[str, str]] = {}
        self._wire_ids: set[str] = set()
        self._audio: list[tuple[int, bytes]] = []

    def brought(self, wire_id: str) -> bool:
        """Whether the item that has this id in the session was brought there."""
        return wire_id in self._wire_ids

    def knows(self, item_id: str) -> bool:
        """Whether the item was brought here."""
        return self._told.get(item_id, _OWN) != _OWN

    def made(self, item_id: str) -> None:
        """The session has made an item itself, or it was sent by other means."""
        self._told.setdefault(item_id, _OWN)

    def behind(self, previous_item_id: str | None) -> str | None:
        """The item that one follows in the call which follows this one in the session: some may not be there."""
        if previous_item_id is None or self._conversation.get(previous_item_id) is None:
            return previous_item_id
        behind, found = previous_item_id, False
        for item in self._conversation:
            if item.item_id == previous_item_id:
                found = True
            elif found and item.item_id in self._told:
                break
            elif found:
                behind = item.item_id
        return behind

    def synchronize(self, audio: list[tuple[int, bytes]]) -> None:
        """Make the session's conversation that of the call.

        Args:
            audio: the caller's, (position, PCM16 at 8 kHz), for turns without text.
        """
        self._audio = audio
        wanted = {item.item_id: self._content(item) for item in self._conversation}
        for item_id, told in list(self._told.items()):
            if told != _OWN and told != wanted.get(item_id):
                self._delete(item_id)
        previous = ""
        left = sum(item_id in self._told for item_id in wanted)
        for item in self._conversation:
            if item.item_id in self._told:
                left -= 1
            elif wanted[item.item_id] is None:
                continue
            else:
                self._create(item, previous, at_end=not left)
            previous = item.item_id
        self._audio = []

    def add(self, item_id: str, **fields: Any) -> None:
        """Put an item of ours behind all others, text that is complete."""
        last = self._conversation.last()
        item = self._conversation.insert(item_id, None, last.item_id if last is not None else None)
        for name, value in fields.items():
            setattr(item, name, value)
        item.text_done = True
        self.rewrite(item)

    def rewrite(self, item: Item) -> None:
        """A replayed item is another now: put it there again."""
        self._delete(item.item_id)
        if self._content(item) is None:
            return
        previous = ""
        for other in self._conversation:
            if other is item:
                break
            previous = other.item_id if other.item_id in self._told else previous
        self._create(item, previous, at_end=self._conversation.last() is item)

    def shorten(self) -> int:
        """Leave the older half of the conversation out of the session; returns how many items that are.

        The newest item stays, and a function call leaves together with its output. A call without an output stays,
        because the API accepts no output without its call.
        """
        told = [item for item in self._conversation if item.item_id in self._told]
        ended = {item.call_id for item in told[:-1] if item.kind is ItemKind.FUNCTION_CALL_OUTPUT}
        older = told[: len(told) // 2]
        leaving = {item.item_id for item in older if not item.call_id or item.call_id in ended}
        calls = {item.call_id for item in told if item.item_id in leaving and item.call_id}
        leaving |= {item.item_id for item in told[:-1] if item.call_id in calls}
        for item in told:
            if item.item_id in leaving:
                item.left_out = True
                self._conversation.changed(item)
                self._delete(item.item_id)
        return len(leaving)

    def delete(self, item_id: str) -> None:
        """The session is to forget an item."""
        self._delete(item_id)

    def _delete(self, item_id: str) -> None:
        if self._told.pop(item_id, None) is not None:
            self._outbox.upstream({"type": "conversation.item.delete", "item_id": _wire_id(item_id)})

    def _create(self, item: Item, previous: str, *, at_end: bool) -> None:
        content = self._content(item)
        assert content is not None
        event: dict[str, Any] = {"type": "conversation.item.create", "item": self._wire(item, *content)}
        if not at_end:
            event["previous_item_id"] = _wire_id(previous) or "root"
        self._outbox.upstream(event)
        self._wire_ids.add(_wire_id(item.item_id))
        self._told[item.item_id] = content

    def _content(self, item: Item) -> tuple[str, str] | None:
        """What the session is to have of an item: (kind, text); None: nothing."""
        if item.left_out:
            return None
        if item.kind is not ItemKind.MESSAGE:
            return item.kind.value, item.text
        if item.role is Role.AGENT:
            return ("output_text", item.heard_text) if item.heard_text else None
        if item.text:
            return "input_text", item.text
        if item.role is not Role.USER:
            return None
        if not item.sound and item.span is not None:
            # Its text will not come any more, so the next session is to have it as well.
            item.sound = g711.encode_ulaw(self._sound(item.span))
            self._conversation.changed(item)
        if not item.sound:
            return None
        pcm = self._uplink().encode(g711.decode_ulaw(item.sound))
        return "input_audio", binascii.b2a_base64(pcm, newline=False).decode()

    def _wire(self, item: Item, kind: str, text: str) -> dict[str, Any]:
        wire: dict[str, Any] = {"id": _wire_id(item.item_id)}
        if kind == ItemKind.FUNCTION_CALL:
            return wire | {"type": kind, "call_id": item.call_id, "name": item.name, "arguments": text}
        if kind == ItemKind.FUNCTION_CALL_OUTPUT:
            return wire | {"type": kind, "call_id": item.call_id, "output": text}
        role = "assistant" if item.role is Role.AGENT else "system" if item.by_system else "user"
        field = "audio" if kind == "input_audio" else "text"
        return wire | {"type": "message", "role": role, "content": [{"type": kind, field: text}]}

    def _sound(self, span: tuple[int, int]) -> bytes:
        start, end = span
        return b"".join(
            pcm[max(0, start - position) * SAMPLE_BYTES : max(0, end - position) * SAMPLE_BYTES]
            for position, pcm in self._audio
        )


def _wire_id(item_id: str) -> str:
    """The id as it can be given to the API: other services make longer ones."""
    if len(item_id) <= MAX_ID_CHARS:
        return item_id
    return f"avr_{hashlib.blake2s(item_id.encode('utf-8', 'replace'), digest_size=14).hexdigest()}"

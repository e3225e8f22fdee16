"""Replay of a conversation to a Realtime session that does not have it.

Items are replayed as text, function calls and their outputs. A caller's turn without a transcript is replayed as
audio. The API cannot truncate text, so a replayed reply that is truncated later is deleted and created again.
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

# Content of an item that the session created itself.
_OWN = ("own", "")
# The API takes ids of up to 32 characters.
MAX_ID_CHARS = 32


class Replay:
    """The part of a conversation that one Realtime session has."""

    def __init__(self, conversation: Conversation, outbox: ActionQueue, uplink: Callable[[], Uplink]) -> None:
        """Make the replay to a session that has no item yet.

        Args:
            conversation: the conversation that the session must have.
            outbox: takes the events.
            uplink: makes an encoder for audio to the session.
        """
        self._conversation = conversation
        self._outbox = outbox
        self._uplink = uplink
        self._sent: dict[str, tuple[str, str]] = {}
        self._wire_ids: set[str] = set()
        self._audio: list[tuple[int, bytes]] = []

    def has_replayed(self, wire_id: str) -> bool:
        """Return whether the session's item with this id was replayed."""
        return wire_id in self._wire_ids

    def knows(self, item_id: str) -> bool:
        """Return whether the item was replayed to the session."""
        return self._sent.get(item_id, _OWN) != _OWN

    def made(self, item_id: str) -> None:
        """Note that the session has an item that was not replayed."""
        self._sent.setdefault(item_id, _OWN)

    def predecessor(self, previous_item_id: str | None) -> str | None:
        """Return the item after which a new one belongs in the call, as the session may lack some items."""
        if previous_item_id is None or self._conversation.get(previous_item_id) is None:
            return previous_item_id
        behind, found = previous_item_id, False
        for item in self._conversation:
            if item.item_id == previous_item_id:
                found = True
            elif found and item.item_id in self._sent:
                break
            elif found:
                behind = item.item_id
        return behind

    def synchronize(self, audio: list[tuple[int, bytes]]) -> None:
        """Make the session's conversation equal to the call's.

        Args:
            audio: audio of the caller for turns without text: (position, PCM16 at 8 kHz).
        """
        self._audio = audio
        wanted = {item.item_id: self._content(item) for item in self._conversation}
        for item_id, sent in list(self._sent.items()):
            if sent != _OWN and sent != wanted.get(item_id):
                self._delete(item_id)
        previous = ""
        left = sum(item_id in self._sent for item_id in wanted)
        for item in self._conversation:
            if item.item_id in self._sent:
                left -= 1
            elif wanted[item.item_id] is None:
                continue
            else:
                self._create(item, previous, at_end=not left)
            previous = item.item_id
        self._audio = []

    def add(self, item_id: str, **fields: Any) -> None:
        """Add an item with complete text at the end of the conversation."""
        last = self._conversation.last()
        item = self._conversation.insert(item_id, None, last.item_id if last is not None else None)
        for name, value in fields.items():
            setattr(item, name, value)
        item.text_done = True
        self.rewrite(item)

    def rewrite(self, item: Item) -> None:
        """Replace an item that has changed in the session."""
        self._delete(item.item_id)
        if self._content(item) is None:
            return
        previous = ""
        for other in self._conversation:
            if other is item:
                break
            previous = other.item_id if other.item_id in self._sent else previous
        self._create(item, previous, at_end=self._conversation.last() is item)

    def shorten(self) -> int:
        """Delete the older half of the conversation from the session; return the number of deleted items.

        The newest item stays, and a function call leaves together with its output. A call without an output stays,
        because the API accepts no output without its call.
        """
        told = [item for item in self._conversation if item.item_id in self._sent]
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
        """Delete an item from the session."""
        self._delete(item_id)

    def _delete(self, item_id: str) -> None:
        if self._sent.pop(item_id, None) is not None:
            self._outbox.upstream({"type": "conversation.item.delete", "item_id": _wire_id(item_id)})

    def _create(self, item: Item, previous: str, *, at_end: bool) -> None:
        content = self._content(item)
        assert content is not None
        event: dict[str, Any] = {"type": "conversation.item.create", "item": self._wire(item, *content)}
        if not at_end:
            event["previous_item_id"] = _wire_id(previous) or "root"
        self._outbox.upstream(event)
        self._wire_ids.add(_wire_id(item.item_id))
        self._sent[item.item_id] = content

    def _content(self, item: Item) -> tuple[str, str] | None:
        """Return the content of an item for the session: (kind, text); None: the session must not have it."""
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
            # No transcript will come, so the dispatcher keeps the sound for the next session.
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
    """Return the id for the API. Ids of other services may be too long, so a hash replaces them."""
    if len(item_id) <= MAX_ID_CHARS:
        return item_id
    return f"avr_{hashlib.blake2s(item_id.encode('utf-8', 'replace'), digest_size=14).hexdigest()}"

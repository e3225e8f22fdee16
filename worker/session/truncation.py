"""Truncation of records that are too long for a message of the link.

Peers decide how long a reply, a caller's turn or a tool's output is. `common/link/wire.py` refuses a record that
is longer than a message, and a refused record ends the call. Long texts are therefore truncated first.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import orjson
import structlog

from common.link import wire

# Maximum text in a truncated record. JSON takes at most six bytes for a character.
MAX_TEXT_CHARS = 128 * 1024
# Maximum sound in base64, in whole groups of four: a minute of speech.
MAX_SOUND_CHARS = 640 * 1024
MARK = " […]"
# Spare room: the dispatcher sends an item again, possibly with another previous item.
ROOM_BYTES = 4096
MAX_RECORD_BYTES = wire.MAX_MESSAGE_BYTES - ROOM_BYTES


def truncate(text: str, max_chars: int = MAX_TEXT_CHARS) -> str:
    """Return the text, truncated to `max_chars` with a mark at its end."""
    return text if len(text) <= max_chars else text[: max_chars - len(MARK)] + MARK


class RecordEncoder:
    """Encoder of one call's records, which logs truncations."""

    def __init__(self, uuid: str) -> None:
        self._log = structlog.get_logger().bind(uuid=uuid)

    def encode(self, record: wire.Record, channel: int) -> bytes:
        """Encode a record for a channel of this number.

        Raises:
            ValueError: see `encoded`.
        """
        if isinstance(record, tuple):
            return wire.encode_record(record, channel)
        message, reason = encoded(record, channel)
        if reason:
            self._log.warning("record truncated", reason=reason)
        return message


def encoded(record: wire.Control, channel: int) -> tuple[bytes, str]:
    """Encode a record, truncated if it is too long.

    Returns:
        the bytes of the record, and the reason for a truncation without the record's content; empty: none.

    Raises:
        ValueError: the record is too long, and has no text to truncate.
    """
    try:
        whole = wire.encode(record, channel)
        if len(whole) <= MAX_RECORD_BYTES:
            return whole, ""
        reason = f"a {type(record).__name__} record of {len(whole)} bytes leaves no room"
    except ValueError as error:
        reason = str(error)
    match record:
        case wire.Transcript():
            return wire.encode(
                dataclasses.replace(record, text=truncate(record.text)), channel
            ), f"{reason}: truncated"
        case wire.PendingReplies():
            share = MAX_TEXT_CHARS // len(record.replies)
            replies = tuple(
                dataclasses.replace(reply, text=truncate(reply.text, share)) for reply in record.replies
            )
            return wire.encode(wire.PendingReplies(replies), channel), f"{reason}: truncated"
        case wire.ItemUpdate():
            return _item_update(record, channel, reason)
        case wire.Result() if "conversation" in record.body:
            return _conversation(record, channel), f"{reason}: oldest entries omitted"
    return wire.encode(record, channel), reason


def _conversation(record: wire.Result, channel: int) -> bytes:
    """Encode the newest part of a conversation, with the number of older entries that are left out."""
    whole: list[dict[str, object]] = record.body["conversation"]
    newest: list[dict[str, object]] = []
    rest: dict[str, Any] = {**record.body, "conversation": []}
    room = MAX_RECORD_BYTES - ROOM_BYTES - len(orjson.dumps(rest))
    for entry in reversed(whole):
        shown = {name: _shown(value) for name, value in entry.items()}
        room -= len(orjson.dumps(shown)) + 1
        if room < 0:
            break
        newest.append(shown)
    body = rest | {"conversation": newest[::-1], "omitted": len(whole) - len(newest)}
    return wire.encode(dataclasses.replace(record, body=body), channel)


def _shown(value: object) -> object:
    if isinstance(value, str):
        return truncate(value)
    return value


def _item_update(record: wire.ItemUpdate, channel: int, reason: str) -> tuple[bytes, str]:
    item = dict(record.item)
    if isinstance(item.get("text"), str):
        item["text"] = truncate(item["text"])
    try:
        shorter = wire.encode(
            dataclasses.replace(record, item=item, sound=record.sound[:MAX_SOUND_CHARS]), channel
        )
        if len(shorter) <= MAX_RECORD_BYTES:
            return shorter, f"{reason}: truncated"
    except ValueError:
        pass
    return wire.encode(wire.ItemUpdate(record.item_id, deleted=True), channel), f"{reason}: item deleted"

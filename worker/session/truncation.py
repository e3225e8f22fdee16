"""Records that fit on the link: a text that is too long for a message is truncated, and does not end the call.

A reply, a caller's turn and a tool's output are as long as somebody else makes them. A record of more than a
message is refused by `common/link/wire.py`, so the longest sentence of a call would end the call.
"""

from __future__ import annotations

import dataclasses

import orjson
import structlog

from common.link import wire

# The longest text in a record that had to be truncated. JSON makes six bytes of a character at most.
MAX_TEXT_CHARS = 128 * 1024
# Of sound in base64, whole groups of four; a minute of speech.
MAX_SOUND_CHARS = 640 * 1024
MARK = " […]"
# The dispatcher sends an item of its memory again, and then the item may follow one with another id.
ROOM_BYTES = 4096
MAX_RECORD_BYTES = wire.MAX_MESSAGE_BYTES - ROOM_BYTES


def truncate(text: str, max_chars: int = MAX_TEXT_CHARS) -> str:
    """Return the text; of a longer one the beginning, with a mark that says so."""
    return text if len(text) <= max_chars else text[: max_chars - len(MARK)] + MARK


class RecordEncoder:
    """The encoder of one call's records, which logs the ones that it truncates."""

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
    """Encode a record, truncated if it has to be.

    Returns:
        the record as bytes, and how it was truncated, for a log line without what the record says; empty: it was
        not.

    Raises:
        ValueError: there is nothing to truncate.
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
            return wire.encode(dataclasses.replace(record, text=truncate(record.text)), channel), f"{reason}: cut"
        case wire.PendingReplies():
            share = MAX_TEXT_CHARS // len(record.replies)
            replies = tuple(
                dataclasses.replace(reply, text=truncate(reply.text, share)) for reply in record.replies
            )
            return wire.encode(wire.PendingReplies(replies), channel), f"{reason}: cut"
        case wire.ItemUpdate():
            return _item_update(record, channel, reason)
        case wire.Result() if "conversation" in record.body:
            return _conversation(record, channel), f"{reason}: the oldest left out"
    return wire.encode(record, channel), reason


def _conversation(record: wire.Result, channel: int) -> bytes:
    """Encode the newest part of a conversation, and how many entries are left out before it."""
    whole: list[dict[str, str]] = record.body["conversation"]
    newest: list[dict[str, str]] = []
    room = MAX_RECORD_BYTES - ROOM_BYTES
    for entry in reversed(whole):
        shown = {name: truncate(value) for name, value in entry.items()}
        room -= len(orjson.dumps(shown)) + 1
        if room < 0:
            break
        newest.append(shown)
    body = {"conversation": newest[::-1], "omitted": len(whole) - len(newest)}
    return wire.encode(dataclasses.replace(record, body=body), channel)


def _item_update(record: wire.ItemUpdate, channel: int, reason: str) -> tuple[bytes, str]:
    item = dict(record.item)
    if isinstance(item.get("text"), str):
        item["text"] = truncate(item["text"])
    try:
        shorter = wire.encode(
            dataclasses.replace(record, item=item, sound=record.sound[:MAX_SOUND_CHARS]), channel
        )
        if len(shorter) <= MAX_RECORD_BYTES:
            return shorter, f"{reason}: cut"
    except ValueError:
        pass
    return wire.encode(wire.ItemUpdate(record.item_id, deleted=True), channel), f"{reason}: left out"

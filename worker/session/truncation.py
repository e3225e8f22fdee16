"""Records that fit on the link: what is too long for a message is cut, and does not cost the call.

A reply, a caller's turn and a tool's output are as long as somebody else makes them. Whole, they would be no
record at all (`common/link/wire.py`), and the call would end by its longest sentence.
"""

from __future__ import annotations

import dataclasses

import orjson

from common.link import wire

# The longest text in a record that had to be cut. JSON makes six bytes of a character at most.
MAX_TEXT_CHARS = 128 * 1024
# Of sound in base64, whole groups of four; a minute of speech.
MAX_SOUND_CHARS = 640 * 1024
MARK = " […]"
# The dispatcher sends what it remembers again, and then it may follow an item with another id.
ROOM_BYTES = 4096
MAX_RECORD_BYTES = wire.MAX_MESSAGE_BYTES - ROOM_BYTES


def cut(text: str, max_chars: int = MAX_TEXT_CHARS) -> str:
    """The beginning of a text that is longer, with a mark that says so."""
    return text if len(text) <= max_chars else text[: max_chars - len(MARK)] + MARK


def encoded(record: wire.Control, channel: int) -> tuple[bytes, str]:
    """A record as bytes, cut if it has to be; and what became of it then, for a log line: never what it says.

    Raises:
        ValueError: there is nothing to cut.
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
            return wire.encode(dataclasses.replace(record, text=cut(record.text)), channel), f"{reason}: cut"
        case wire.PendingReplies():
            share = MAX_TEXT_CHARS // len(record.replies)
            replies = tuple(dataclasses.replace(reply, text=cut(reply.text, share)) for reply in record.replies)
            return wire.encode(wire.PendingReplies(replies), channel), f"{reason}: cut"
        case wire.ItemUpdate():
            return _remember(record, channel, reason)
        case wire.Result() if "conversation" in record.body:
            return _conversation(record, channel), f"{reason}: the oldest left out"
    return wire.encode(record, channel), reason


def _conversation(record: wire.Result, channel: int) -> bytes:
    """Its newest part, and how many entries are left out before it."""
    whole: list[dict[str, str]] = record.body["conversation"]
    newest: list[dict[str, str]] = []
    room = MAX_RECORD_BYTES - ROOM_BYTES
    for entry in reversed(whole):
        shown = {name: cut(value) for name, value in entry.items()}
        room -= len(orjson.dumps(shown)) + 1
        if room < 0:
            break
        newest.append(shown)
    body = {"conversation": newest[::-1], "omitted": len(whole) - len(newest)}
    return wire.encode(dataclasses.replace(record, body=body), channel)


def _remember(record: wire.ItemUpdate, channel: int, reason: str) -> tuple[bytes, str]:
    item = dict(record.item)
    if isinstance(item.get("text"), str):
        item["text"] = cut(item["text"])
    try:
        shorter = wire.encode(
            dataclasses.replace(record, item=item, sound=record.sound[:MAX_SOUND_CHARS]), channel
        )
        if len(shorter) <= MAX_RECORD_BYTES:
            return shorter, f"{reason}: cut"
    except ValueError:
        pass
    return wire.encode(wire.ItemUpdate(record.item_id, forgotten=True), channel), f"{reason}: left out"

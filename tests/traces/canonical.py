"""The canonical form of what goes into a core and comes out of it: plain JSON, without the bytes of any encoding.

A record of the link is its kind and fields, without its channel. Audio is its length and a short digest.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
from enum import Enum
from typing import Any, Final, get_args

import orjson

from common.link import wire
from common.link.wire import Kind
from tests.traces.names import ADDED_METRICS, field_of, name_of, text_of

Output = list[Any]
"""What a core wants done.

It is ["upstream", event], ["record", name, fields], ["action", name, fields] or ["raised", name]. A record of the
dispatcher has the number of its leg before its name.
"""

_CONTROL: Final[dict[int, type[wire.Control]]] = {record.kind: record for record in get_args(wire.Control)}
# Records that are no JSON have no class.
_BINARY: Final = {
    Kind.REPLY_AUDIO: "ReplyAudio",
    Kind.CALLER_AUDIO: "CallerAudio",
    Kind.KEPT_AUDIO: "KeptAudio",
    Kind.REPLY_TEXT: "ReplyText",
    Kind.CREDIT: "Credit",
    Kind.ACK: "Ack",
}


def plain(value: Any) -> Any:
    """Return a value as plain JSON."""
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, str):
        return text_of(value)
    if isinstance(value, float):
        rounded = round(value, 6)
        return int(rounded) if rounded.is_integer() else rounded
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return audio(bytes(value))
    if isinstance(value, dict):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return [plain(each) for each in value]
    if isinstance(value, (set, frozenset)):
        return sorted(plain(each) for each in value)
    return fields_of(value)


def fields_of(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass or named tuple as plain JSON."""
    class_name = name_of(type(value).__name__)
    names = value._fields if hasattr(value, "_fields") else [field.name for field in dataclasses.fields(value)]
    fields = {field_of(class_name, name): getattr(value, name) for name in names}
    return {name: plain(each) for name, each in fields.items() if name is not None}


def audio(data: bytes) -> dict[str, Any]:
    """Return what the traces have of audio: its length and a digest."""
    return {"bytes": len(data), "digest": hashlib.blake2s(data, digest_size=3).hexdigest()}


def upstream(event: dict[str, Any]) -> Output:
    """Return an event for the Realtime API; audio in it is base64 there."""
    made = plain(event)
    if "audio" in made and isinstance(made["audio"], str):
        made["audio"] = _audio64(made["audio"])
    item = made.get("item")
    for part in (item.get("content") or ()) if isinstance(item, dict) else ():
        if isinstance(part.get("audio"), str):
            part["audio"] = _audio64(part["audio"])
    return ["upstream", made]


def action(value: Any) -> list[Output]:
    """Return an action that has no form of its own; none, if the traces do not have it."""
    seen = getattr(value, "seen", None)
    if isinstance(seen, Enum) and seen.value in ADDED_METRICS:
        return []
    return [["action", name_of(type(value).__name__), fields_of(value)]]


def record(value: Any) -> list[Any]:
    """Return name and fields of a record of the link, be it a dataclass or bytes."""
    if not isinstance(value, (bytes, memoryview)):
        fields = fields_of(value)
        return [name_of(type(value).__name__), _with_sound(fields)]
    ((kind, _, payload),) = wire.decode(value)
    if kind not in _BINARY:
        return record(wire.decode_control(_CONTROL[kind], payload))
    name = _BINARY[Kind(kind)]
    match kind:
        case Kind.REPLY_AUDIO:
            index, pcm = wire.decode_reply_audio(payload)
            return [name, {"index": index, "pcm": audio(bytes(pcm))}]
        case Kind.CALLER_AUDIO:
            position, pcm = wire.decode_caller_audio(payload)
            return [name, {"position_samples": position, "pcm": audio(bytes(pcm))}]
        case Kind.KEPT_AUDIO:
            position, ulaw = wire.decode_kept_audio(payload)
            return [name, {"position_samples": position, "ulaw": audio(bytes(ulaw))}]
        case Kind.REPLY_TEXT:
            index, samples, text = wire.decode_reply_text(payload)
            return [name, {"index": index, "received_samples": samples, "text": text}]
        case Kind.CREDIT:
            return [name, {"credit_bytes": wire.decode_credit(payload)}]
    return [name, {"received": wire.decode_ack(payload)}]


def raised(error: BaseException) -> Output:
    """Return an exception of the service's own by its name; of others compiled code raises other types."""
    is_ours = type(error).__module__.startswith("common")
    return ["raised", name_of(type(error).__name__) if is_ours else "bad input"]


def digest(value: Any) -> bytes:
    """Return eight bytes that stand for a plain value."""
    return hashlib.blake2b(orjson.dumps(value, option=orjson.OPT_SORT_KEYS), digest_size=8).digest()


def _with_sound(fields: dict[str, Any]) -> dict[str, Any]:
    """Return a caller's turn without text, remembered as sound in base64."""
    for holder in (fields, fields.get("item")):
        if isinstance(holder, dict) and isinstance(holder.get("sound"), str) and holder["sound"]:
            holder["sound"] = _audio64(holder["sound"])
    return fields


def _audio64(data: str) -> Any:
    try:
        return audio(base64.b64decode(data, validate=True))
    except binascii.Error:
        return data

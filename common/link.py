"""The link between a dispatcher and a worker: one WebSocket for all the calls that the two share.

A binary WebSocket message holds one or more records, each ``kind: u8, channel: u32, length: u32`` (network
order) and a payload of that length. All records of one turn of the event loop travel in one message.

A *channel* stands for one call at one epoch on one link; the dispatcher numbers them from 1 and never uses a
number twice on a link, so a record that is late can only meet its own epoch. Channel 0 is the link itself.
Audio payloads are raw PCM16 at 8 kHz behind a small binary head; all others are JSON objects, of which fields
that a side does not know are ignored and missing ones have defaults, and kinds that it does not know are
skipped, so that a release and the one before it understand each other.

======================  =====  ==========================================================================
record                  way    meaning
======================  =====  ==========================================================================
HELLO                   both   first on a link: protocol version, release, who, its incarnation
PROOF                   both   second, where CLUSTER_TOKEN is set: see `cluster_token`
OPEN                    D → W  take this call at this epoch; answered by OPENED or REFUSED
OPENED, REFUSED         D ← W  taken, with credit for the caller's audio; or why not
READY                   D ← W  the Realtime session is up: the conversation goes on from here
CALLER_AUDIO            D → W  caller's samples, with their position in the call
REPLY_ITEM              D ← W  names the item that a number stands for in audio records
REPLY_AUDIO             D ← W  samples of an item
REPLY_ITEM_DONE         D ← W  the item has no more samples: pad its last frame
FLUSH                   D ← W  barge-in: drop what was not sent, interrupt, and say what was heard
HEARD                   D → W  the answer: what was heard of each item that had not been heard out
PLAYOUT                 D → W  while something plays, every 200 ms: how far the playout is
TRANSCRIPT              D ← W  what was said, for AVR Core: once per item, in conversation order
FINISHED                D ← W  the caller's audio up to this position is text now: need not be kept
CREDIT                  both   so many more bytes of this call's audio may be sent
DTMF                    D → W  the caller pressed a key
ORDER                   D ← W  hang up or transfer when all that was sent before it has been heard
ORDER_DONE              D → W  what came of it
CLOSE                   D → W  the caller is gone, or another epoch holds the call: let go
ENDED                   D ← W  the worker has ended the call, and why
COMMAND                 D → W  channel 0: the calls API wants something of a call
RESULT                  D ← W  channel 0: what came of it
EVENT                   D ← W  channel 0: something happened in a call that is watched
======================  =====  ==========================================================================
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, ClassVar, TypeVar

import orjson

from common.errors import LinkProtocolError

PROTOCOL_VERSION = 1
# The newest protocol and the one before it can be on the link during a rollout.
OLDEST_PROTOCOL_VERSION = 1

# A second of audio is 16,000 bytes. The windows bridge an event loop that stalls for a moment, and are what a
# call can hold in the other process at most.
CALLER_CREDIT_BYTES = 2 * 16_000
REPLY_CREDIT_BYTES = 4 * 16_000
# Credit is given back in pieces of this size, not for every frame.
CREDIT_STEP_BYTES = 8_000

MAX_MESSAGE_BYTES = 1024 * 1024
SAMPLE_BYTES = 2
_HEAD = struct.Struct("!BII")
HEAD_BYTES = _HEAD.size
_CALLER_AUDIO = struct.Struct("!Q")
_REPLY_AUDIO = struct.Struct("!I")
_CREDIT = struct.Struct("!I")


class Kind(IntEnum):
    """What a record is. Numbers are part of the protocol and are never used again for another meaning."""

    HELLO = 1
    OPEN = 2
    OPENED = 3
    REFUSED = 4
    READY = 5
    CALLER_AUDIO = 6
    REPLY_ITEM = 7
    REPLY_AUDIO = 8
    REPLY_ITEM_DONE = 9
    FLUSH = 10
    HEARD = 11
    PLAYOUT = 12
    TRANSCRIPT = 13
    FINISHED = 14
    CREDIT = 15
    CLOSE = 16
    ENDED = 17
    DTMF = 18
    ORDER = 19
    ORDER_DONE = 20
    COMMAND = 21
    RESULT = 22
    EVENT = 23
    # From 64 on: of the link itself, before it is up.
    PROOF = 64


class Refusal(StrEnum):
    """Why a worker does not take a call."""

    FULL = "full"
    DRAINING = "draining"
    STALE_EPOCH = "stale_epoch"


class OrderAction(StrEnum):
    """What a dispatcher can be told to do with a call."""

    HANG_UP = "hang_up"
    TRANSFER = "transfer"


class Outcome(StrEnum):
    """How a session ended, as it is counted."""

    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Hello:
    """The first record of each side; `challenge` is empty where CLUSTER_TOKEN is not set."""

    kind: ClassVar[Kind] = Kind.HELLO
    protocol: int = 0
    release: str = ""
    role: str = ""
    id: str = ""
    incarnation: str = ""
    challenge: str = ""


@dataclass(frozen=True, slots=True)
class Proof:
    """That the sender knows CLUSTER_TOKEN."""

    kind: ClassVar[Kind] = Kind.PROOF
    proof: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Open:
    """Take a call.

    Attributes:
        position_samples: where in the call (8 kHz) the audio that follows begins.
        credit_bytes: how much reply audio may be sent before the first CREDIT.
        age_seconds: since `init`.
        provider_config: as AVR Core's `init` brought it; it may hold a key, so it is never stored or logged.
    """

    kind: ClassVar[Kind] = Kind.OPEN
    uuid: str = ""
    epoch: int = 0
    metadata: dict[str, str] = field(default_factory=dict)
    position_samples: int = 0
    credit_bytes: int = 0
    age_seconds: float = 0.0
    provider_config: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Opened:
    """The call is taken; so many bytes of caller's audio may be sent before the first CREDIT."""

    kind: ClassVar[Kind] = Kind.OPENED
    credit_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """The call is not taken; `epoch` is the one that the worker knows, for a stale one."""

    kind: ClassVar[Kind] = Kind.REFUSED
    reason: str = ""
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Ready:
    """The Realtime session is up."""

    kind: ClassVar[Kind] = Kind.READY


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
    """

    kind: ClassVar[Kind] = Kind.PLAYOUT
    items: tuple[ItemHeard, ...] = ()
    idle: bool = False


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said; `role` is `user` or `agent`."""

    kind: ClassVar[Kind] = Kind.TRANSCRIPT
    item_id: str = ""
    role: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Finished:
    """The caller's audio before `position_samples` is known as text."""

    kind: ClassVar[Kind] = Kind.FINISHED
    position_samples: int = 0
    item_id: str = ""


@dataclass(frozen=True, slots=True)
class Close:
    """Let go of the call."""

    kind: ClassVar[Kind] = Kind.CLOSE
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """The worker has ended the call.

    Attributes:
        outcome: an `Outcome`.
        message: for AVR Core, where it failed.
    """

    kind: ClassVar[Kind] = Kind.ENDED
    outcome: str = Outcome.COMPLETED.value
    message: str = ""


@dataclass(frozen=True, slots=True)
class Dtmf:
    """One key."""

    kind: ClassVar[Kind] = Kind.DTMF
    digit: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """Do this on Asterisk when all that was sent before it has been heard, even if the worker is gone by then.

    Attributes:
        number: ORDER_DONE brings it back.
        action: an `OrderAction`.
        extension, context, priority: of a transfer.
    """

    kind: ClassVar[Kind] = Kind.ORDER
    number: int = 0
    action: str = ""
    extension: str = ""
    context: str = ""
    priority: str = ""


@dataclass(frozen=True, slots=True)
class OrderDone:
    """What avr-ami said to an order."""

    kind: ClassVar[Kind] = Kind.ORDER_DONE
    number: int = 0
    ok: bool = False
    message: str = ""


@dataclass(frozen=True, slots=True)
class Command:
    """The calls API wants something of a call: RESULT answers by number, EVENTs too where it watches."""

    kind: ClassVar[Kind] = Kind.COMMAND
    number: int = 0
    uuid: str = ""
    action: str = ""
    body: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to a command, as an HTTP status and a JSON body."""

    kind: ClassVar[Kind] = Kind.RESULT
    number: int = 0
    status: int = 0
    body: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened in a call; without a body: nothing more will."""

    kind: ClassVar[Kind] = Kind.EVENT
    number: int = 0
    body: dict[str, Any] = field(default_factory=dict)


Control = (
    Hello
    | Proof
    | Open
    | Opened
    | Refused
    | Ready
    | ReplyItem
    | ReplyItemDone
    | Flush
    | Heard
    | Playout
    | Transcript
    | Finished
    | Close
    | Ended
    | Dtmf
    | Order
    | OrderDone
    | Command
    | Result
    | Event
)
_C = TypeVar("_C", bound=Control)


def encode(record: Control, channel: int) -> bytes:
    """A control record as bytes.

    Raises:
        ValueError: it is longer than a message may be; sent, it would cost the link and all the calls on it.
    """
    payload = orjson.dumps(record)
    if len(payload) > MAX_MESSAGE_BYTES - _HEAD.size:
        raise ValueError(f"a {type(record).__name__} record of {len(payload)} bytes is too long for the link")
    return _HEAD.pack(record.kind, channel, len(payload)) + payload


def encode_caller_audio(channel: int, position_samples: int, pcm: bytes) -> bytes:
    """Caller's audio: PCM16 at 8 kHz whose first sample is the call's sample `position_samples`."""
    head = _HEAD.pack(Kind.CALLER_AUDIO, channel, _CALLER_AUDIO.size + len(pcm))
    return head + _CALLER_AUDIO.pack(position_samples) + pcm


def encode_reply_audio(channel: int, index: int, pcm: bytes) -> bytes:
    """Reply audio: PCM16 at 8 kHz of the item that REPLY_ITEM gave this index."""
    return _HEAD.pack(Kind.REPLY_AUDIO, channel, _REPLY_AUDIO.size + len(pcm)) + _REPLY_AUDIO.pack(index) + pcm


def encode_credit(channel: int, credit_bytes: int) -> bytes:
    """Credit for so many more bytes of audio."""
    return _HEAD.pack(Kind.CREDIT, channel, _CREDIT.size) + _CREDIT.pack(credit_bytes)


def decode(message: bytes | bytearray | memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Split a WebSocket message into records: (kind, channel, payload); the kind may be an unknown one.

    Raises:
        LinkProtocolError: the message ends within a record.
    """
    view = memoryview(message)
    offset, size = 0, len(view)
    while offset < size:
        if size - offset < _HEAD.size:
            raise LinkProtocolError(f"a link message ends within a record head at byte {offset} of {size}")
        kind, channel, length = _HEAD.unpack_from(view, offset)
        offset += _HEAD.size
        if size - offset < length:
            raise LinkProtocolError(f"a link record of {length} bytes is cut off after {size - offset}")
        yield kind, channel, view[offset : offset + length]
        offset += length


def decode_caller_audio(payload: memoryview) -> tuple[int, memoryview]:
    """(position_samples, PCM16 at 8 kHz).

    Raises:
        LinkProtocolError: it has no head, or half a sample.
    """
    return _audio(_CALLER_AUDIO, payload)


def decode_reply_audio(payload: memoryview) -> tuple[int, memoryview]:
    """(item index, PCM16 at 8 kHz).

    Raises:
        LinkProtocolError: it has no head, or half a sample.
    """
    return _audio(_REPLY_AUDIO, payload)


def decode_credit(payload: memoryview) -> int:
    """Bytes of audio.

    Raises:
        LinkProtocolError: it is not four bytes.
    """
    if len(payload) != _CREDIT.size:
        raise LinkProtocolError(f"a CREDIT record of {len(payload)} bytes")
    (credit_bytes,) = _CREDIT.unpack(payload)
    return int(credit_bytes)


def decode_control(record_type: type[_C], payload: memoryview) -> _C:
    """A control record from its JSON payload; unknown fields are ignored.

    Raises:
        LinkProtocolError: it is not a JSON object, or a field has another type than this side expects. The error
            does not repeat what was sent.
    """
    try:
        data = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise LinkProtocolError(f"a {record_type.__name__} record is not JSON") from error
    return _build(record_type, data)


_D = TypeVar("_D")


def _build(record_type: type[_D], data: object) -> _D:
    if not isinstance(data, dict):
        raise LinkProtocolError(f"a {record_type.__name__} record is not a JSON object")
    values = {}
    for f in dataclasses.fields(record_type):  # type: ignore[arg-type]  # always one of the dataclasses above
        if f.name not in data:
            continue
        value = data[f.name]
        if not _IS[str(f.type)](value):
            raise LinkProtocolError(
                f"field {f.name} of a {record_type.__name__} record is a {type(value).__name__}, or out of range"
            )
        values[f.name] = tuple(_build(ItemHeard, v) for v in value) if isinstance(value, list) else value
    return record_type(**values)


# By a field's annotation. Every number here counts something; JSON's true is not 1.
_IS: dict[str, Callable[[Any], bool]] = {
    "int": lambda value: type(value) is int and value >= 0,
    "str": lambda value: isinstance(value, str),
    "float": lambda value: type(value) in (int, float) and value >= 0,
    "bool": lambda value: isinstance(value, bool),
    "dict[str, Any]": lambda value: isinstance(value, dict),
    "dict[str, str]": lambda value: isinstance(value, dict) and all(isinstance(v, str) for v in value.values()),
    "tuple[ItemHeard, ...]": lambda value: isinstance(value, list),
}


def _audio(head: struct.Struct, payload: memoryview) -> tuple[int, memoryview]:
    if len(payload) < head.size or (len(payload) - head.size) % SAMPLE_BYTES:
        raise LinkProtocolError(f"an audio record of {len(payload)} bytes is no head and whole samples")
    (value,) = head.unpack_from(payload)
    return int(value), payload[head.size :]

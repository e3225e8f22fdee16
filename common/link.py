"""The link between a dispatcher and a worker: one WebSocket for all the calls that the two share.

A binary WebSocket message holds one or more records, each ``kind: u8, channel: u32, length: u32`` (network
order) and a payload of that length. All records of one turn of the event loop travel in one message.

A *channel* stands for one call at one epoch; the dispatcher numbers them from 1 and never uses a number twice for
a worker, so a record that is late can only meet its own epoch. Channel 0 is the link itself. Audio payloads are
raw PCM16 at 8 kHz behind a small binary head; all others are JSON objects, of which fields that a side does not
know are ignored and missing ones have defaults, and kinds that it does not know are skipped, so that a release
and the one before it understand each other.

A link that breaks while both ends live is replaced by a new one, on which ATTACH takes up each channel where it
was: both sides count the records of a channel (`common/stream.py`; those marked * are not counted) and send again
what the other has not got.

======================  =====  ==========================================================================
record                  way    meaning
======================  =====  ==========================================================================
HELLO *                 both   first on a link: protocol version, release, who, its incarnation
PROOF *                 both   second, where CLUSTER_TOKEN is set: see `cluster_token`
OPEN *                  D → W  take this call at this epoch; answered by OPENED or REFUSED
OPENED                  D ← W  taken, with credit for the caller's audio
REFUSED *               D ← W  or not, and why
ATTACH, ATTACHED *      both   go on with a channel of a link that broke; with the count of records received
ACK *                   both   so many records of the channel have been received
READY                   D ← W  the Realtime session is up: the conversation goes on from here
CALLER_AUDIO            D → W  caller's samples, with their position in the call
REPLY_ITEM              D ← W  names the item that a number stands for in audio records
REPLY_TEXT              D ← W  more text of an item, and how much of its audio the worker has
REPLY_AUDIO             D ← W  samples of an item
REPLY_ITEM_DONE         D ← W  the item has no more samples: pad its last frame
FLUSH                   D ← W  barge-in: drop what was not sent, interrupt, and say what was heard
HEARD                   D → W  the answer: what was heard of each item that had not been heard out
PLAYOUT                 both   while something plays, every 200 ms: how far the playout is; and to a dispatcher
                               that takes over, how far it was
TRANSCRIPT              D ← W  what was said, for AVR Core: once per item, in conversation order
FINISHED                D ← W  the caller's audio up to this position need not be kept
CREDIT                  both   so many more bytes of this call's audio may be sent
DTMF                    D → W  the caller pressed a key
KEYED                   D ← W  so many keys are part of the conversation now
ORDER                   D ← W  hang up or transfer when all that was sent before it has been heard
ORDER_DONE              D → W  what came of it
TOOL, TOOL_KNOWN        both   a tool is about to run, for the dispatcher to know; it knows
CLOSE                   both   the caller is gone, or another epoch holds the call: let go
ENDED                   D ← W  the worker has ended the call, and why
PROFILE, REMEMBER       both   the call's memory: its settings, and an item; kept by the dispatcher, and given to
                               the worker that takes over
SPOKEN, KEPT_AUDIO      both   and what is unfinished: replies, and the caller's audio (µ-law)
GO                      D → W  the memory is whole: bring it to a session, and go on (or stand by)
MOVE                    D ← W  please move the call to another session: this worker, or its session, is to end
RELEASE                 D → W  another session stands by: let go at the next quiet moment
RELEASED                D ← W  the call has no session any more, and is to get another
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
from common.nesting import is_too_deep

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
# What is counted goes on from a number that has come, and has to find room in 64 bits again. Seconds do, too.
MAX_NUMBER = 2**53
SAMPLE_BYTES = 2
_HEAD = struct.Struct("!BII")
HEAD_BYTES = _HEAD.size
_CALLER_AUDIO = struct.Struct("!Q")
_REPLY_AUDIO = struct.Struct("!I")
_CREDIT = struct.Struct("!I")
_REPLY_TEXT = struct.Struct("!II")


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
    ATTACH = 24
    ATTACHED = 25
    ACK = 26
    REPLY_TEXT = 27
    KEYED = 28
    TOOL = 29
    TOOL_KNOWN = 30
    PROFILE = 31
    REMEMBER = 32
    SPOKEN = 33
    KEPT_AUDIO = 34
    GO = 35
    MOVE = 36
    RELEASE = 37
    RELEASED = 38
    # From 64 on: of the link itself, before it is up.
    PROOF = 64


UNCOUNTED = frozenset({Kind.HELLO, Kind.OPEN, Kind.REFUSED, Kind.ATTACH, Kind.ATTACHED, Kind.ACK})
"""Records that belong to no channel's stream: see `common/stream.py`."""


class Refusal(StrEnum):
    """Why a worker does not take a call."""

    FULL = "full"
    DRAINING = "draining"
    STALE_EPOCH = "stale_epoch"
    UNKNOWN = "unknown"


class OrderAction(StrEnum):
    """What a dispatcher can be told to do with a call."""

    HANG_UP = "hang_up"
    TRANSFER = "transfer"


class Reason(StrEnum):
    """Why a call gets another session; the values of metrics' labels."""

    DROPPED = "dropped"
    ROLLOVER = "rollover"
    DRAIN = "drain"
    WORKER_LOST = "worker_lost"


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
        restore: the call's memory follows, up to GO.
        attach: go on with the session that the worker has of this call; UNKNOWN if it has none.
        first_index: the numbers of reply items begin here: the earlier ones are known to the playout clock.
        delay_seconds: before a session is opened: the last ones did not last.
        waited_seconds: how long the call has been without a session that lasts.
    """

    kind: ClassVar[Kind] = Kind.OPEN
    uuid: str = ""
    epoch: int = 0
    metadata: dict[str, str] = field(default_factory=dict)
    position_samples: int = 0
    credit_bytes: int = 0
    age_seconds: float = 0.0
    provider_config: dict[str, Any] = field(default_factory=dict, repr=False)
    restore: bool = False
    attach: bool = False
    first_index: int = 0
    delay_seconds: float = 0.0
    waited_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Opened:
    """The call is taken.

    Attributes:
        credit_bytes: how much of the caller's audio may be sent before the first CREDIT.
        attached: the session goes on; its memory follows.
        position_samples: of an attached one: the position that the audio which follows is to have.
    """

    kind: ClassVar[Kind] = Kind.OPENED
    credit_bytes: int = 0
    attached: bool = False
    position_samples: int = 0


@dataclass(frozen=True, slots=True)
class Attach:
    """Go on with this channel, of which so many records have been received."""

    kind: ClassVar[Kind] = Kind.ATTACH
    uuid: str = ""
    epoch: int = 0
    received: int = 0


@dataclass(frozen=True, slots=True)
class Attached:
    """The channel goes on; so many records of it have been received."""

    kind: ClassVar[Kind] = Kind.ATTACHED
    received: int = 0


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
        queued: what AVR Core has been given of each item that it has not played to the end, oldest first.
        age_seconds: how long ago it was so (towards a new dispatcher).
    """

    kind: ClassVar[Kind] = Kind.PLAYOUT
    items: tuple[ItemHeard, ...] = ()
    idle: bool = False
    queued: tuple[ItemHeard, ...] = ()
    age_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said; `role` is `user` or `agent`."""

    kind: ClassVar[Kind] = Kind.TRANSCRIPT
    item_id: str = ""
    role: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Finished:
    """The caller's audio before `position_samples` is known as text, or is silence.

    Attributes:
        position_samples: in the call, at 8 kHz.
        speaking: the caller is saying something.
    """

    kind: ClassVar[Kind] = Kind.FINISHED
    position_samples: int = 0
    speaking: bool = False


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
        id: of the function call that wants it; ORDER_DONE brings it back. An order is carried out once.
        action: an `OrderAction`.
        extension, context, priority: of a transfer.
    """

    kind: ClassVar[Kind] = Kind.ORDER
    id: str = ""
    action: str = ""
    extension: str = ""
    context: str = ""
    priority: str = ""


@dataclass(frozen=True, slots=True)
class OrderDone:
    """What avr-ami said to an order."""

    kind: ClassVar[Kind] = Kind.ORDER_DONE
    id: str = ""
    ok: bool = False
    message: str = ""


@dataclass(frozen=True, slots=True)
class Keyed:
    """So many of the keys that were sent are part of the conversation."""

    kind: ClassVar[Kind] = Kind.KEYED
    digits: int = 0


@dataclass(frozen=True, slots=True)
class Tool:
    """The tool of this function call is about to run."""

    kind: ClassVar[Kind] = Kind.TOOL
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class ToolKnown:
    """That it runs is known: it may."""

    kind: ClassVar[Kind] = Kind.TOOL_KNOWN
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class Profile:
    """The call's settings, as only workers understand them.

    Attributes:
        record: what may be stored.
        secrets: what may not.
    """

    kind: ClassVar[Kind] = Kind.PROFILE
    record: dict[str, Any] = field(default_factory=dict, repr=False)
    secrets: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Remember:
    """An item of the conversation, as only workers understand it; it takes the place of what was known of it.

    Attributes:
        item_id: of the item.
        after: the item that it follows; empty: it is the first. A known item stays where it is.
        forgotten: the item is not part of the conversation any more.
        settled: of a reply: what the caller has heard of it is known, and part of the item.
        item: what it is.
        sound: of a turn of the caller's whose text will not come: mu-law in base64. It is not for Redis.
    """

    kind: ClassVar[Kind] = Kind.REMEMBER
    item_id: str = ""
    after: str = ""
    forgotten: bool = False
    settled: bool = False
    item: dict[str, Any] = field(default_factory=dict, repr=False)
    sound: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply item that the caller may still be hearing.

    Attributes:
        index: its number in audio records.
        item_id: of the item.
        text: as far as it is known.
        received_samples: at 8 kHz: what the worker had of it, and `text` belongs to.
        sent_samples: what came of it to the dispatcher.
        done: that was all of it.
        heard_samples: what the caller has heard of it.
        cut: nor will the caller hear more of it: a barge-in has cut it.
    """

    index: int = 0
    item_id: str = ""
    text: str = field(default="", repr=False)
    received_samples: int = 0
    sent_samples: int = 0
    done: bool = False
    heard_samples: int = 0
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Spoken:
    """The replies that are not settled, oldest first."""

    kind: ClassVar[Kind] = Kind.SPOKEN
    replies: tuple[Reply, ...] = ()


@dataclass(frozen=True, slots=True)
class Go:
    """The memory is whole.

    Attributes:
        reason: a `Reason`; empty where the call only begins.
        standby: bring the memory to a session and wait: the memory comes again when the session is to go on.
        orders: orders that the dispatcher knows of, carried out or not.
        digits: keys that were pressed and are not part of the conversation yet.
        speaking: the caller was saying something.
    """

    kind: ClassVar[Kind] = Kind.GO
    reason: str = ""
    standby: bool = False
    orders: tuple[str, ...] = ()
    digits: str = ""
    speaking: bool = False


@dataclass(frozen=True, slots=True)
class Move:
    """Please move the call to another session.

    Attributes:
        reason: a `Reason`.
        seconds: within this time.
    """

    kind: ClassVar[Kind] = Kind.MOVE
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Release:
    """Let go of the call at the next quiet moment, at the latest after so many seconds; RELEASED answers."""

    kind: ClassVar[Kind] = Kind.RELEASE
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Released:
    """The worker has no session of the call any more.

    Attributes:
        reason: a `Reason`.
        message: for people.
    """

    kind: ClassVar[Kind] = Kind.RELEASED
    reason: str = ""
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
    | Attach
    | Attached
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
    | Keyed
    | Tool
    | ToolKnown
    | Profile
    | Remember
    | Spoken
    | Go
    | Move
    | Release
    | Released
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


def encode_ack(channel: int, received: int) -> bytes:
    """So many records of the channel have been received."""
    return _HEAD.pack(Kind.ACK, channel, _CREDIT.size) + _CREDIT.pack(received)


def encode_reply_text(channel: int, index: int, received_samples: int, text: str) -> bytes:
    """More text of the item that REPLY_ITEM gave this index, of which the worker has so much audio (8 kHz)."""
    payload = _REPLY_TEXT.pack(index, received_samples) + text.encode("utf-8", "replace")
    return _HEAD.pack(Kind.REPLY_TEXT, channel, len(payload)) + payload


def encode_kept_audio(channel: int, position_samples: int, ulaw: bytes) -> bytes:
    """Caller's audio that was kept: mu-law whose first sample is the call's sample `position_samples`."""
    head = _HEAD.pack(Kind.KEPT_AUDIO, channel, _CALLER_AUDIO.size + len(ulaw))
    return head + _CALLER_AUDIO.pack(position_samples) + ulaw


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
        raise LinkProtocolError(f"a CREDIT or ACK record of {len(payload)} bytes")
    (credit_bytes,) = _CREDIT.unpack(payload)
    return int(credit_bytes)


def decode_ack(payload: memoryview) -> int:
    """Records received.

    Raises:
        LinkProtocolError: it is not four bytes.
    """
    return decode_credit(payload)


def decode_reply_text(payload: memoryview) -> tuple[int, int, str]:
    """(item index, samples at 8 kHz that the worker has of it, text to add).

    Raises:
        LinkProtocolError: it has no head, or is not UTF-8.
    """
    if len(payload) < _REPLY_TEXT.size:
        raise LinkProtocolError(f"a REPLY_TEXT record of {len(payload)} bytes")
    index, received_samples = _REPLY_TEXT.unpack_from(payload)
    try:
        return int(index), int(received_samples), str(payload[_REPLY_TEXT.size :], "utf-8")
    except UnicodeDecodeError as error:
        raise LinkProtocolError("the text of a REPLY_TEXT record is not UTF-8") from error


def decode_kept_audio(payload: memoryview) -> tuple[int, memoryview]:
    """(position_samples, mu-law).

    Raises:
        LinkProtocolError: it has no head.
    """
    if len(payload) < _CALLER_AUDIO.size:
        raise LinkProtocolError(f"a KEPT_AUDIO record of {len(payload)} bytes")
    (position,) = _CALLER_AUDIO.unpack_from(payload)
    if position > MAX_NUMBER:
        raise LinkProtocolError("the position of a KEPT_AUDIO record is out of range")
    return int(position), payload[_CALLER_AUDIO.size :]


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
        member = _MEMBERS.get(str(f.type))
        if member is not None:
            value = tuple(_build(member, each) for each in value)
        values[f.name] = tuple(value) if isinstance(value, list) else value
    return record_type(**values)


# By a field's annotation. Every number here counts something; JSON's true is not 1.
_IS: dict[str, Callable[[Any], bool]] = {
    "int": lambda value: type(value) is int and 0 <= value <= MAX_NUMBER,
    "str": lambda value: isinstance(value, str),
    "float": lambda value: type(value) in (int, float) and 0 <= value <= MAX_NUMBER,
    "bool": lambda value: isinstance(value, bool),
    "dict[str, Any]": lambda value: isinstance(value, dict) and not is_too_deep(value),
    "dict[str, str]": lambda value: isinstance(value, dict) and all(isinstance(v, str) for v in value.values()),
    "tuple[ItemHeard, ...]": lambda value: isinstance(value, list),
    "tuple[Reply, ...]": lambda value: isinstance(value, list),
    "tuple[str, ...]": lambda value: isinstance(value, list) and all(isinstance(each, str) for each in value),
}
_MEMBERS: dict[str, type[Any]] = {"tuple[ItemHeard, ...]": ItemHeard, "tuple[Reply, ...]": Reply}


def _audio(head: struct.Struct, payload: memoryview) -> tuple[int, memoryview]:
    if len(payload) < head.size or (len(payload) - head.size) % SAMPLE_BYTES:
        raise LinkProtocolError(f"an audio record of {len(payload)} bytes is no head and whole samples")
    (value,) = head.unpack_from(payload)
    if value > MAX_NUMBER:
        raise LinkProtocolError("the position of an audio record is out of range")
    return int(value), payload[head.size :]

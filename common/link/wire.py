"""The link between a dispatcher and a worker: one WebSocket for all the calls that the two share.

A binary WebSocket message holds one or more records, each ``kind: u8, channel: u32, length: u32`` (network
order) and a payload of that length. All records of one turn of the event loop travel in one message.

A *channel* stands for one call at one epoch. The dispatcher numbers its channels from 1 and never uses a number
twice for a worker, so a late record can only meet its own epoch. Channel 0 is the link itself. Audio payloads are
raw PCM16 at 8 kHz behind a small binary head. All other payloads are JSON objects. Unknown fields are ignored,
missing fields have defaults, and records of unknown kinds are skipped, so that a release understands the release
before it.

A link that breaks while both ends live is replaced by a new link, on which ATTACH resumes each channel. Both sides
count the records of a channel, except those marked *, and retransmit unacknowledged records
(`common/link/retransmit_buffer.py`).

======================  =====  ==========================================================================
record                  way    meaning
======================  =====  ==========================================================================
HELLO *                 both   first record of a link: protocol version, release, role, id, boot_id
PROOF *                 both   second record, where CLUSTER_TOKEN is set: see `token_handshake`
OPEN *                  D → W  open this call at this epoch; answered by OPENED or REFUSED
OPENED                  D ← W  the call is accepted, with credit for the caller's audio
REFUSED *               D ← W  the call is refused, with the reason
ATTACH, ATTACHED *      both   resume a channel of a broken link; with the number of records received
ACK *                   both   number of records of the channel that have been received
READY                   D ← W  the Realtime session is open: the conversation continues from here
CALLER_AUDIO            D → W  the caller's samples, with their position in the call
REPLY_ITEM              D ← W  names the item of an index in audio records
REPLY_TEXT              D ← W  more text of an item, and how much of its audio the worker has
REPLY_AUDIO             D ← W  samples of an item
REPLY_ITEM_DONE         D ← W  the item has no more samples: pad its last frame
FLUSH                   D ← W  barge-in: drop unsent audio, interrupt, and report how much was heard
HEARD                   D → W  answer to FLUSH: how much was heard of each unfinished item
PLAYOUT                 both   position of the playout, every 200 ms while audio plays; also sent to a dispatcher
                               that takes the call over
TRANSCRIPT              D ← W  a transcript for AVR Core: once per item, in conversation order
FINISHED                D ← W  the caller's audio before this position need not be kept
CREDIT                  both   number of further bytes of this call's audio that may be sent
DTMF                    D → W  the caller pressed a key
KEYED                   D ← W  number of keys that are now part of the conversation
TELEPHONY_COMMAND       D ← W  hang up or transfer after the audio sent before has been heard
TELEPHONY_DONE          D → W  the result of a telephony command
TOOL, TOOL_KNOWN        both   a tool is about to run; the dispatcher has recorded that
CLOSE                   both   the caller is gone, or another epoch holds the call: detach
ENDED                   D ← W  the worker has ended the call, with the reason
PROFILE, ITEM_UPDATE    both   the call's memory: its settings, and an item; kept by the dispatcher, and sent
                               to the worker that takes over
PENDING_REPLIES         both   the unfinished part of the memory: replies
KEPT_AUDIO              D → W  the unfinished part of the memory: the caller's audio without a transcript (µ-law)
RESUME                  D → W  the memory is complete: restore it in a session, and continue (or stand by)
MOVE                    D ← W  move the call to another session: this worker, or its session, is about to end
RELEASE                 D → W  another session stands by: end this session at the next quiet moment
RELEASED                D ← W  the call has no session any more, and needs another one
AWAITING                D ← W  a silent caller is owed an answer, or no longer; sent only if OPEN asks for it
COLLECT                 D ← W  begin or end a collection of keys for a tool; sent only if OPEN offers it
COLLECTING              D → W  the caller's audio is silence from here on, and keys come as SECRET_KEY
SECRET_KEY              D → W  a key that the caller pressed for a tool
COMMAND                 D → W  channel 0: a request of the calls API
RESULT                  D ← W  channel 0: the answer to a command
EVENT                   D ← W  channel 0: an event of a watched call
======================  =====  ==========================================================================
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from common.errors import LinkProtocolError
from common.link.binary_records import Binary, CallerAudio, Credit, KeptAudio, Record, ReplyAudio, ReplyText
from common.link.call_records import (
    Attach,
    Attached,
    Awaiting,
    Close,
    Ended,
    Move,
    Open,
    Opened,
    Ready,
    Refused,
    Release,
    Released,
)
from common.link.control_json import MAX_NUMBER, decode_control, encode_control, json_name
from common.link.figure_records import Figures, ToolFigure
from common.link.kinds import UNCOUNTED, Kind, Outcome, Reason, Refusal, TelephonyAction
from common.link.link_records import Command, Event, Hello, Proof, Result
from common.link.memory_records import (
    ItemUpdate,
    Keyed,
    PendingReplies,
    Profile,
    Reply,
    Resume,
    Tool,
    ToolKnown,
)
from common.link.records import Control
from common.link.speech_records import (
    Finished,
    Flush,
    Heard,
    ItemHeard,
    Playout,
    ReplyItem,
    ReplyItemDone,
    Transcript,
)
from common.link.telephony_records import Collect, Collecting, Dtmf, SecretKey, TelephonyCommand, TelephonyDone
from common.observe.call_outcome import EndReason, end_reason

__all__ = [
    "CALLER_AUDIO_HEAD_BYTES",
    "CALLER_CREDIT_BYTES",
    "CREDIT_STEP_BYTES",
    "HEAD_BYTES",
    "MAX_MESSAGE_BYTES",
    "MAX_NUMBER",
    "OLDEST_PROTOCOL_VERSION",
    "PROTOCOL_VERSION",
    "REPLY_CREDIT_BYTES",
    "SAMPLE_BYTES",
    "UNCOUNTED",
    "Attach",
    "Attached",
    "Awaiting",
    "Binary",
    "CallerAudio",
    "Close",
    "Collect",
    "Collecting",
    "Command",
    "Control",
    "Credit",
    "Dtmf",
    "EndReason",
    "Ended",
    "Event",
    "Figures",
    "Finished",
    "Flush",
    "Heard",
    "Hello",
    "ItemHeard",
    "ItemUpdate",
    "KeptAudio",
    "Keyed",
    "Kind",
    "Move",
    "Open",
    "Opened",
    "Outcome",
    "PendingReplies",
    "Playout",
    "Profile",
    "Proof",
    "Ready",
    "Reason",
    "Record",
    "Refusal",
    "Refused",
    "Release",
    "Released",
    "Reply",
    "ReplyAudio",
    "ReplyItem",
    "ReplyItemDone",
    "ReplyText",
    "Result",
    "Resume",
    "SecretKey",
    "TelephonyAction",
    "TelephonyCommand",
    "TelephonyDone",
    "Tool",
    "ToolFigure",
    "ToolKnown",
    "Transcript",
    "decode",
    "decode_ack",
    "decode_caller_audio",
    "decode_control",
    "decode_credit",
    "decode_kept_audio",
    "decode_reply_audio",
    "decode_reply_text",
    "encode",
    "encode_ack",
    "encode_caller_audio",
    "encode_credit",
    "encode_kept_audio",
    "encode_record",
    "encode_reply_audio",
    "encode_reply_text",
    "end_reason",
    "json_name",
]

# Protocol 2 is that of release 0.2, which does not speak protocol 1 of release 0.1 (docs/releases.md).
PROTOCOL_VERSION = 2
# The oldest protocol that a peer may have: usually the one before, because both are on the link during a rollout.
OLDEST_PROTOCOL_VERSION = 2

# A second of audio is 16,000 bytes. The credit bridges a short stall of the other event loop. It bounds the audio
# of a call in the other process.
CALLER_CREDIT_BYTES = 2 * 16_000
REPLY_CREDIT_BYTES = 4 * 16_000
# Credit is returned in steps of this size, not for every frame.
CREDIT_STEP_BYTES = 8_000

MAX_MESSAGE_BYTES = 1024 * 1024
SAMPLE_BYTES = 2
_HEAD = struct.Struct("!BII")
HEAD_BYTES = _HEAD.size
_CALLER_AUDIO = struct.Struct("!Q")
CALLER_AUDIO_HEAD_BYTES = _CALLER_AUDIO.size
_REPLY_AUDIO = struct.Struct("!I")
_CREDIT = struct.Struct("!I")
_REPLY_TEXT = struct.Struct("!II")


def encode(record: Control, channel: int) -> bytes:
    """Encode a control record.

    Raises:
        ValueError: the record is too long for a message, or too deep to be read by the other end. If it were sent,
            it would end the link and all calls on it.
    """
    payload = encode_control(record)
    if len(payload) > MAX_MESSAGE_BYTES - _HEAD.size:
        raise ValueError(f"a {type(record).__name__} record of {len(payload)} bytes is too long for the link")
    return _HEAD.pack(record.kind, channel, len(payload)) + payload


def encode_record(record: Record, channel: int) -> bytes:
    """Encode a record of any kind.

    Raises:
        ValueError: see `encode`.
    """
    # Records of every frame are recognized by their type alone, because a `match` pattern costs four times as
    # much.
    if type(record) is CallerAudio:
        return encode_caller_audio(channel, record.position_samples, record.pcm)
    if type(record) is ReplyAudio:
        return encode_reply_audio(channel, record.item_index, record.pcm)
    if type(record) is Credit:
        return encode_credit(channel, record.credit_bytes)
    if type(record) is ReplyText:
        return encode_reply_text(channel, record.item_index, record.received_samples, record.text)
    if type(record) is KeptAudio:
        return encode_kept_audio(channel, record.position_samples, record.ulaw)
    assert not isinstance(record, tuple)
    return encode(record, channel)


def encode_caller_audio(channel: int, position_samples: int, pcm: bytes) -> bytes:
    """Encode caller audio: PCM16 at 8 kHz whose first sample has the number `position_samples` in the call."""
    head = _HEAD.pack(Kind.CALLER_AUDIO, channel, _CALLER_AUDIO.size + len(pcm))
    return head + _CALLER_AUDIO.pack(position_samples) + pcm


def encode_reply_audio(channel: int, index: int, pcm: bytes) -> bytes:
    """Encode reply audio: PCM16 at 8 kHz of the item that REPLY_ITEM gave this index."""
    return _HEAD.pack(Kind.REPLY_AUDIO, channel, _REPLY_AUDIO.size + len(pcm)) + _REPLY_AUDIO.pack(index) + pcm


def encode_credit(channel: int, credit_bytes: int) -> bytes:
    """Encode credit for further bytes of audio."""
    return _HEAD.pack(Kind.CREDIT, channel, _CREDIT.size) + _CREDIT.pack(credit_bytes)


def encode_ack(channel: int, received: int) -> bytes:
    """Encode the number of records of the channel that have been received."""
    return _HEAD.pack(Kind.ACK, channel, _CREDIT.size) + _CREDIT.pack(received)


def encode_reply_text(channel: int, index: int, received_samples: int, text: str) -> bytes:
    """Encode more text of the item with this index; `received_samples` of its audio (8 kHz) are at the worker."""
    payload = _REPLY_TEXT.pack(index, received_samples) + text.encode("utf-8", "replace")
    return _HEAD.pack(Kind.REPLY_TEXT, channel, len(payload)) + payload


def encode_kept_audio(channel: int, position_samples: int, ulaw: bytes) -> bytes:
    """Encode kept caller audio: mu-law whose first sample has the number `position_samples` in the call."""
    head = _HEAD.pack(Kind.KEPT_AUDIO, channel, _CALLER_AUDIO.size + len(ulaw))
    return head + _CALLER_AUDIO.pack(position_samples) + ulaw


def decode(message: bytes | bytearray | memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Split a WebSocket message into records: (kind, channel, payload); the kind may be unknown.

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
            raise LinkProtocolError(f"a link record of {length} bytes is truncated after {size - offset}")
        yield kind, channel, view[offset : offset + length]
        offset += length


def decode_caller_audio(payload: memoryview) -> tuple[int, memoryview]:
    """Return position_samples and PCM16 at 8 kHz.

    Raises:
        LinkProtocolError: the payload has no head, or half a sample.
    """
    return _audio(_CALLER_AUDIO, payload)


def decode_reply_audio(payload: memoryview) -> tuple[int, memoryview]:
    """Return the item's index and PCM16 at 8 kHz.

    Raises:
        LinkProtocolError: the payload has no head, or half a sample.
    """
    return _audio(_REPLY_AUDIO, payload)


def decode_credit(payload: memoryview) -> int:
    """Return the bytes of audio.

    Raises:
        LinkProtocolError: the payload is not four bytes.
    """
    if len(payload) != _CREDIT.size:
        raise LinkProtocolError(f"a CREDIT or ACK record of {len(payload)} bytes")
    (credit_bytes,) = _CREDIT.unpack(payload)
    return int(credit_bytes)


def decode_ack(payload: memoryview) -> int:
    """Return the number of records received.

    Raises:
        LinkProtocolError: the payload is not four bytes.
    """
    return decode_credit(payload)


def decode_reply_text(payload: memoryview) -> tuple[int, int, str]:
    """Return the item's index, the samples at 8 kHz that the worker has, and the text to add.

    Raises:
        LinkProtocolError: the payload has no head, or is not UTF-8.
    """
    if len(payload) < _REPLY_TEXT.size:
        raise LinkProtocolError(f"a REPLY_TEXT record of {len(payload)} bytes")
    index, received_samples = _REPLY_TEXT.unpack_from(payload)
    try:
        return int(index), int(received_samples), str(payload[_REPLY_TEXT.size :], "utf-8")
    except UnicodeDecodeError as error:
        raise LinkProtocolError("the text of a REPLY_TEXT record is not UTF-8") from error


def decode_kept_audio(payload: memoryview) -> tuple[int, memoryview]:
    """Return position_samples and mu-law.

    Raises:
        LinkProtocolError: the payload has no head.
    """
    if len(payload) < _CALLER_AUDIO.size:
        raise LinkProtocolError(f"a KEPT_AUDIO record of {len(payload)} bytes")
    (position,) = _CALLER_AUDIO.unpack_from(payload)
    if position > MAX_NUMBER:
        raise LinkProtocolError("the position of a KEPT_AUDIO record is out of range")
    return int(position), payload[_CALLER_AUDIO.size :]


def _audio(head: struct.Struct, payload: memoryview) -> tuple[int, memoryview]:
    if len(payload) < head.size or (len(payload) - head.size) % SAMPLE_BYTES:
        raise LinkProtocolError(f"an audio record of {len(payload)} bytes is not a head and whole samples")
    (value,) = head.unpack_from(payload)
    if value > MAX_NUMBER:
        raise LinkProtocolError("the position of an audio record is out of range")
    return int(value), payload[head.size :]

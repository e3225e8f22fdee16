"""The kinds of a link's records, and the fixed words in records."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class Kind(IntEnum):
    """The kind of a record. Numbers are part of the protocol, and are never reused for another kind."""

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
    TELEPHONY_COMMAND = 19
    TELEPHONY_DONE = 20
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
    ITEM_UPDATE = 32
    PENDING_REPLIES = 33
    KEPT_AUDIO = 34
    RESUME = 35
    MOVE = 36
    RELEASE = 37
    RELEASED = 38
    AWAITING = 39
    FIGURES = 40
    COLLECT = 41
    COLLECTING = 42
    SECRET_KEY = 43
    # From 64 on: records of the link itself, before it is up.
    PROOF = 64


UNCOUNTED = frozenset({Kind.HELLO, Kind.OPEN, Kind.REFUSED, Kind.ATTACH, Kind.ATTACHED, Kind.ACK})
"""Records that do not count for a channel's acknowledgements: see `common/link/retransmit_buffer.py`."""


class Refusal(StrEnum):
    """Why a worker refuses a call."""

    FULL = "full"
    DRAINING = "draining"
    STALE_EPOCH = "stale_epoch"
    UNKNOWN = "unknown"
    INVALID = "invalid"


class TelephonyAction(StrEnum):
    """The action of a telephony command."""

    HANG_UP = "hang_up"
    TRANSFER = "transfer"


class Reason(StrEnum):
    """Why a call gets another session; also a label of metrics."""

    DROPPED = "dropped"
    ROLLOVER = "rollover"
    DRAIN = "drain"
    WORKER_LOST = "worker_lost"


class Outcome(StrEnum):
    """How a session ended, for the metrics."""

    COMPLETED = "completed"
    FAILED = "failed"

"""The records of a link that are not JSON: audio, and what goes with every frame of it.

They are tuples, because a frozen dataclass takes three times as long to make.
"""

from __future__ import annotations

from typing import NamedTuple

from common.link.records import Control


class CallerAudio(NamedTuple):
    """Audio of the caller.

    Attributes:
        position_samples: the number of its first sample, counted from the start of the call at 8 kHz.
        pcm: PCM16 little-endian at 8 kHz.
    """

    position_samples: int
    pcm: bytes


class ReplyAudio(NamedTuple):
    """Audio of a reply.

    Attributes:
        item_index: of the item, as REPLY_ITEM gave it.
        pcm: PCM16 little-endian at 8 kHz.
    """

    item_index: int
    pcm: bytes


class Credit(NamedTuple):
    """Permission to send more audio.

    Attributes:
        credit_bytes: of PCM16 at 8 kHz.
    """

    credit_bytes: int


class ReplyText(NamedTuple):
    """More text of a reply.

    Attributes:
        item_index: of the item, as REPLY_ITEM gave it.
        received_samples: of its audio that the worker has, at 8 kHz.
        text: to be added.
    """

    item_index: int
    received_samples: int
    text: str


class KeptAudio(NamedTuple):
    """Audio of the caller that the dispatcher kept for another session.

    Attributes:
        position_samples: the number of its first sample, counted from the start of the call at 8 kHz.
        ulaw: G.711 mu-law at 8 kHz.
    """

    position_samples: int
    ulaw: bytes


Binary = CallerAudio | ReplyAudio | Credit | ReplyText | KeptAudio
Record = Control | Binary

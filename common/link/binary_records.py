"""The binary records of a link: audio, and the other records that travel with every frame.

These records are tuples, because a frozen dataclass takes three times as long to make.
"""

from __future__ import annotations

from typing import NamedTuple

from common.link.records import Control


class CallerAudio(NamedTuple):
    """Audio of the caller.

    Attributes:
        position_samples: number of the first sample, counted from the start of the call at 8 kHz.
        pcm: PCM16 little-endian at 8 kHz.
    """

    position_samples: int
    pcm: bytes


class ReplyAudio(NamedTuple):
    """Audio of a reply.

    Attributes:
        item_index: index of the item, from REPLY_ITEM.
        pcm: PCM16 little-endian at 8 kHz.
    """

    item_index: int
    pcm: bytes


class Credit(NamedTuple):
    """Permission to send more audio.

    Attributes:
        credit_bytes: bytes of PCM16 at 8 kHz.
    """

    credit_bytes: int


class ReplyText(NamedTuple):
    """More text of a reply.

    Attributes:
        item_index: index of the item, from REPLY_ITEM.
        received_samples: samples of the item's audio that the worker has, at 8 kHz.
        text: is appended.
    """

    item_index: int
    received_samples: int
    text: str


class KeptAudio(NamedTuple):
    """Caller audio that the dispatcher kept for another session.

    Attributes:
        position_samples: number of the first sample, counted from the start of the call at 8 kHz.
        ulaw: G.711 mu-law at 8 kHz.
    """

    position_samples: int
    ulaw: bytes


Binary = CallerAudio | ReplyAudio | Credit | ReplyText | KeptAudio
Record = Control | Binary

"""Whole messages as WebSocket frames, encoded and decoded without the library.

`websockets` makes an object of every frame and reads it through four generators. Nearly all messages of a call are
one frame each. For those a few lines are enough (RFC 6455, section 5.2). Control frames, fragments and broken
frames are left to the library, which also keeps the state of the connection.
"""

from __future__ import annotations

import os
import struct
from typing import Final

from websockets.client import ClientProtocol
from websockets.frames import Frame
from websockets.protocol import Protocol
from websockets.server import ServerProtocol

try:
    from websockets.speedups import apply_mask
except ImportError:  # no wheel for this machine
    from websockets.utils import apply_mask

# First bytes of a message in one frame: FIN, no reserved bits, and the opcode.
TEXT: Final = 0x81
BINARY: Final = 0x82
_MESSAGES: Final = (TEXT, BINARY)
# This bit is set in the second byte of every frame of a client.
MASKED: Final = 0x80

_MEDIUM: Final = struct.Struct("!BBH")
_LONG: Final = struct.Struct("!BBQ")
# Random bytes are requested in blocks of this size, because each request is a system call.
_MASKS_BYTES: Final = 4096


def server_frame(first: int, data: bytes) -> bytes:
    """Encode a message of a server.

    Args:
        first: `TEXT` or `BINARY`.
        data: the message.
    """
    length = len(data)
    if length < 126:
        return bytes((first, length)) + data
    if length < 65536:
        return _MEDIUM.pack(first, 126, length) + data
    return _LONG.pack(first, 127, length) + data


def client_frame(first: int, data: bytes) -> bytes:
    """Encode a message of a client, under an unpredictable mask.

    Args:
        first: `TEXT` or `BINARY`.
        data: the message.
    """
    length = len(data)
    mask = _next_mask()
    if length < 126:
        return bytes((first, MASKED | length)) + mask + apply_mask(data, mask)
    if length < 65536:
        return _MEDIUM.pack(first, MASKED | 126, length) + mask + apply_mask(data, mask)
    return _LONG.pack(first, MASKED | 127, length) + mask + apply_mask(data, mask)


def read_message(data: bytes, offset: int, masks: int, most_bytes: int) -> tuple[bytes, int, int] | None:
    """Decode the message in one frame that begins at this offset.

    Args:
        data: from the socket.
        offset: where a frame begins, or the data ends.
        masks: `MASKED` if the peer must mask its frames, which clients must and servers must not; else 0.
        most_bytes: bound of a message.

    Returns:
        the message, its first byte (`TEXT` or `BINARY`) and the offset of the next frame. None if the data at the
        offset is not such a frame: incomplete, too long, masked wrongly, or of another kind.
    """
    size = len(data)
    if size - offset < 2:
        return None
    first, second = data[offset], data[offset + 1]
    if first not in _MESSAGES or second & MASKED != masks:
        return None
    length, start = second & ~MASKED, offset + 2
    # A truncated head gives too small a length, but the frame's end is still beyond the end of the data.
    if length == 126:
        start += 2
        length = int.from_bytes(data[offset + 2 : start])
    elif length == 127:
        start += 8
        length = int.from_bytes(data[offset + 2 : start])
    if not masks:
        end = start + length
        return None if end > size or length > most_bytes else (data[start:end], first, end)
    end = start + 4 + length
    if end > size or length > most_bytes:
        return None
    return apply_mask(data[start + 4 : end], data[start : start + 4]), first, end


class _Masks:
    def __init__(self) -> None:
        self._random = b""
        self._used = 0

    def next(self) -> bytes:
        used = self._used
        if used == len(self._random):
            self._random, used = os.urandom(_MASKS_BYTES), 0
        self._used = used + 4
        return self._random[used : used + 4]


_next_mask = _Masks().next


class _Frames(Protocol):
    """The library's protocol with a mark of where frames end.

    Attributes:
        drained: the last frame ended at the end of the data, so the next frame may bypass the library.
    """

    drained = False

    def recv_frame(self, frame: Frame) -> None:
        """See `Protocol`."""
        super().recv_frame(frame)
        self.drained = not self.reader.buffer


class ServerFrames(_Frames, ServerProtocol):
    """The library's protocol of a server."""


class ClientFrames(_Frames, ClientProtocol):
    """The library's protocol of a client."""

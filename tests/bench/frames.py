"""Cheap WebSocket frames, so that a load generator does not use the CPU of the service under test."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable

from websockets.speedups import apply_mask
from websockets.utils import accept_key

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
_FIN = 0x80
_KEY = re.compile(rb"\r\nsec-websocket-key: *(\S+)", re.IGNORECASE)


def server_frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """Return a whole message of a server: not masked."""
    return _head(len(payload), _FIN | opcode, 0) + payload


def client_frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """Return a whole message of a client: masked with its own key."""
    mask = os.urandom(4)
    return _head(len(payload), _FIN | opcode, 0x80) + mask + apply_mask(payload, mask)


def _head(length: int, first: int, masked: int) -> bytes:
    if length < 126:
        return bytes((first, masked | length))
    if length < 65536:
        return struct.pack("!BBH", first, masked | 126, length)
    return struct.pack("!BBQ", first, masked | 127, length)


class FrameReader:
    """Cuts a socket's bytes into whole frames. The peer is a part of the benchmark, and sends no fragments."""

    def __init__(self, received: Callable[[int, bytes], None]) -> None:
        self._received = received
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Take bytes of the socket, and call `received(opcode, payload)` for each complete frame."""
        if self._rest:
            data = self._rest + data
        offset, size = 0, len(data)
        while size - offset >= 2:
            second = data[offset + 1]
            length, start = second & 0x7F, offset + 2
            if length == 126:
                start += 2
                length = int.from_bytes(data[offset + 2 : start])
            elif length == 127:
                start += 8
                length = int.from_bytes(data[offset + 2 : start])
            masked = second & 0x80
            if masked:
                start += 4
            end = start + length
            if end > size:
                break
            payload = data[start:end]
            if masked:
                payload = apply_mask(payload, data[start - 4 : start])
            self._received(data[offset] & 0x0F, payload)
            offset = end
        self._rest = data[offset:]


def upgrade_request(host: str, path: str) -> bytes:
    """Return a client's opening handshake."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def upgrade_answer(request: bytes) -> bytes:
    """Return a server's answer to an opening handshake.

    Raises:
        ValueError: the request is not an opening handshake.
    """
    key = _KEY.search(request)
    if key is None:
        raise ValueError("no Sec-WebSocket-Key")
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept_key(key[1].decode())}\r\n\r\n"
    ).encode()

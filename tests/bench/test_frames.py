from __future__ import annotations

import pytest
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, SERVER, Protocol

from tests.bench.frames import FrameReader, client_frame, server_frame, upgrade_answer, upgrade_request

SIZES = [0, 1, 125, 126, 65_535, 65_536]


@pytest.mark.parametrize("size", SIZES)
def test_the_library_reads_what_is_written(size: int) -> None:
    for protocol, write in ((Protocol(SERVER), client_frame), (Protocol(CLIENT), server_frame)):
        protocol.receive_data(write(bytes(size)))
        (frame,) = protocol.events_received()
        assert isinstance(frame, Frame)
        assert (frame.opcode, bytes(frame.data), frame.fin) == (Opcode.TEXT, bytes(size), True)


@pytest.mark.parametrize("step", [1, 7, 1_000_000])
def test_written_frames_are_read_however_they_are_cut(step: int) -> None:
    read: list[tuple[int, bytes]] = []
    reader = FrameReader(lambda opcode, payload: read.append((opcode, payload)))
    payloads = [b"x" * size for size in SIZES[:4]]
    data = b"".join(write(payload) for payload in payloads for write in (client_frame, server_frame))
    for start in range(0, len(data), step):
        reader.feed(data[start : start + step])
    assert read == [(1, payload) for payload in payloads for _ in range(2)]


def test_a_handshake() -> None:
    # The key and its answer are those of RFC 6455, 1.3.
    request = upgrade_request("x", "/").replace(b"AAAAAAAAAAAAAAAAAAAAAA==", b"dGhlIHNhbXBsZSBub25jZQ==")
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in upgrade_answer(request)
    with pytest.raises(ValueError, match="no Sec-WebSocket-Key"):
        upgrade_answer(b"GET / HTTP/1.1\r\n\r\n")

"""Our way of messages against the library's: the same bytes, and nothing read that it would not read so."""

from __future__ import annotations

import os
import secrets
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, OPEN, SERVER, Protocol

from common.net import frames
from common.net.frames import BINARY, MASKED, TEXT, client_frame, read_message, server_frame

SIZES = [0, 1, 2, 124, 125, 126, 127, 128, 65_534, 65_535, 65_536, 65_537, 200_000]
OPCODES = {TEXT: Opcode.TEXT, BINARY: Opcode.BINARY}
MOST_BYTES = 1000

sizes = pytest.mark.parametrize("size", SIZES)
first_bytes = pytest.mark.parametrize("first", [TEXT, BINARY])


def library_frame(protocol: Protocol, data: bytes) -> Frame:
    protocol.receive_data(data)
    (frame,) = protocol.events_received()
    assert isinstance(frame, Frame)
    return frame


class TestWriting:
    @sizes
    @first_bytes
    def test_a_servers_messages_are_the_librarys_to_the_bit(self, size: int, first: int) -> None:
        data = os.urandom(size)
        assert server_frame(first, data) == Frame(OPCODES[first], data).serialize(mask=False)

    @sizes
    @first_bytes
    def test_a_clients_messages_are_the_librarys_but_for_the_mask(self, size: int, first: int) -> None:
        data = os.urandom(size)
        written = client_frame(first, data)
        head = len(Frame(OPCODES[first], data).serialize(mask=True)) - size
        assert written[: head - 4] == Frame(OPCODES[first], data).serialize(mask=True)[: head - 4]
        frame = library_frame(Protocol(SERVER), written)
        assert (frame.opcode, bytes(frame.data), frame.fin) == (OPCODES[first], data, True)

    def test_no_mask_comes_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(frames, "_next_mask", frames._Masks().next)
        masks = [client_frame(TEXT, b"")[2:] for _ in range(5000)]
        # Of 5,000 random ones among 2**32 two are alike once in 300 runs, and three pairs never.
        assert len(set(masks)) >= 4998

    @pytest.mark.interpreted
    def test_masks_are_random_and_each_is_used_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        random: list[bytes] = []

        def urandom(size: int) -> bytes:
            random.append(secrets.token_bytes(size))
            return random[-1]

        monkeypatch.setattr(frames, "_next_mask", frames._Masks().next)
        monkeypatch.setattr(frames, "os", SimpleNamespace(urandom=urandom))
        masks = [client_frame(TEXT, b"")[2:] for _ in range(3000)]
        assert b"".join(random).startswith(b"".join(masks))
        assert len(b"".join(random)) - 4 * len(masks) < 4096


class TestReading:
    @sizes
    @first_bytes
    def test_whole_messages_are_read(self, size: int, first: int) -> None:
        data = os.urandom(size)
        for masks, written in ((MASKED, client_frame(first, data)), (0, server_frame(first, data))):
            before, behind = b"before", b"behind"
            read = read_message(before + written + behind, len(before), masks, 2**20)
            assert read == (data, first, len(before) + len(written))

    @sizes
    @pytest.mark.parametrize("masks", [MASKED, 0])
    def test_a_message_that_is_cut_off_is_none_wherever_that_is(self, size: int, masks: int) -> None:
        written = (client_frame if masks else server_frame)(TEXT, os.urandom(size))
        for length in {*range(16), len(written) - 1} - {len(written)}:
            if length < len(written):
                assert read_message(written[:length], 0, masks, 2**20) is None

    @pytest.mark.parametrize("masks", [MASKED, 0])
    def test_a_message_over_the_limit_is_none(self, masks: int) -> None:
        write = client_frame if masks else server_frame
        assert read_message(write(TEXT, bytes(MOST_BYTES)), 0, masks, MOST_BYTES) is not None
        assert read_message(write(TEXT, bytes(MOST_BYTES + 1)), 0, masks, MOST_BYTES) is None

    @pytest.mark.parametrize("masks", [MASKED, 0])
    def test_a_wrongly_masked_message_is_left_to_the_library(self, masks: int) -> None:
        write = server_frame if masks else client_frame
        assert read_message(write(TEXT, b"x"), 0, masks, MOST_BYTES) is None

    @pytest.mark.parametrize("first", [first for first in range(256) if first not in OPCODES])
    def test_all_other_frames_are_the_librarys(self, first: int) -> None:
        assert read_message(bytes([first, 0x80, 1, 2, 3, 4]), 0, MASKED, MOST_BYTES) is None
        assert read_message(bytes([first, 0]), 0, 0, MOST_BYTES) is None

    @given(
        head=st.tuples(st.sampled_from([0x81, 0x82, 0x01, 0x80, 0x89, 0xC1]), st.integers(0, 255)),
        rest=st.binary(max_size=300),
        masks=st.sampled_from([MASKED, 0]),
    )
    def test_messages_are_read_as_by_the_library(self, head: tuple[int, int], rest: bytes, masks: int) -> None:
        data = bytes(head) + rest
        read = read_message(data, 0, masks, MOST_BYTES)
        if read is None:
            return
        message, first, end = read
        library = Protocol(SERVER if masks else CLIENT, max_size=MOST_BYTES)
        frame = library_frame(library, data[:end])
        assert library.state is OPEN
        assert (bytes(frame.data), frame.opcode, frame.fin) == (message, OPCODES[first], True)
        assert not library.reader.buffer
        # And the library needs every byte of it.
        library = Protocol(SERVER if masks else CLIENT, max_size=MOST_BYTES)
        library.receive_data(data[: end - 1])
        assert library.events_received() == []

"""Our WebSocket against the `websockets` library's own asyncio API, and against peers that speak raw bytes."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from random import Random
from typing import Any

import pytest
from websockets.asyncio.client import connect as library_connect
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as threaded_connect

from common.net.websocket import close_all
from common.net.websocket_client import connect
from common.net.websocket_limits import Limits
from tests.common.websocket_peers import (
    BINARY,
    CLOSE,
    CONTINUATION,
    HANDSHAKE,
    PATIENCE_SECONDS,
    PING,
    PONG,
    SHORT_ENDS,
    TEXT,
    RawPeer,
    Recorder,
    close_frame_code,
    frame,
    listening,
    random_text,
)
from tests.helpers import eventually

pytestmark = pytest.mark.usefixtures("loop_failures")

NO_PINGS = dataclasses.replace(SHORT_ENDS, ping_interval_seconds=None)


def close_code(error: ConnectionClosed) -> int:
    assert error.rcvd is not None
    return error.rcvd.code


class TestMessages:
    async def test_text_and_binary_arrive_unchanged(self) -> None:
        long = random_text(500_000)
        async with listening() as ours, library_connect(ours.url) as client:
            owner = await ours.owner()
            await client.send("città 🙂")
            await client.send(b"\x00\xff")
            await client.send("")
            await client.send(long)
            await eventually(lambda: len(owner.messages) == 4, PATIENCE_SECONDS)
        assert owner.messages == [
            ("città 🙂".encode(), True),
            (b"\x00\xff", False),
            (b"", True),
            (long.encode(), True),
        ]

    async def test_fragments_arrive_as_one_message(self) -> None:
        async with listening() as ours, library_connect(ours.url) as client:
            owner = await ours.owner()
            await client.send(["one ", "", "message"])
            await client.send([b"\x01", b"\x02", b"\x03"])
            await client.send("the next")
            assert await owner.received_texts(3) == ["one message", "\x01\x02\x03", "the next"]
        assert [text for _, text in owner.messages] == [True, False, True]

    async def test_a_ping_between_fragments_is_answered_and_breaks_nothing(self) -> None:
        async with listening() as ours, await RawPeer.handshaken(ours.port) as peer:
            owner = await ours.owner()
            peer.send(frame(TEXT, b"a", fin=False) + frame(PING, b"payload") + frame(CONTINUATION, b"b"))
            assert await peer.read_frame() == (PONG, b"payload")
            assert await owner.received_texts(1) == ["ab"]

    async def test_messages_of_the_owner_arrive_in_order(self) -> None:
        async with listening() as ours, library_connect(ours.url) as client:
            owner = await ours.owner()
            sent: list[str | bytes] = []
            for number in range(100):
                owner.ws.send_text(f"text {number}".encode())
                owner.ws.send_binary(bytes([number]))
                sent += [f"text {number}", bytes([number])]
            async with asyncio.timeout(PATIENCE_SECONDS):
                assert [await client.recv() for _ in sent] == sent

    async def test_both_our_ends_understand_each_other(self) -> None:
        async with listening() as ours:
            near = Recorder()
            connection = await connect(ours.url, near)
            far = await ours.owner()
            connection.send_text(b"to the server")
            far.ws.send_binary(b"to the client")
            await far.received_texts(1)
            await near.received_texts(1)
            assert far.messages == [(b"to the server", True)]
            assert near.messages == [(b"to the client", False)]
            connection.close(1000, "bye")
            assert await far.closed_with() == (1000, "bye")
            assert await near.closed_with() == (1000, "bye")

    async def test_a_frame_in_the_handshakes_segment_is_a_message(self) -> None:
        async with listening() as ours, await RawPeer.connect(ours.port) as peer:
            peer.send(HANDSHAKE + frame(TEXT, b"early"))
            assert await (await ours.owner()).received_texts(1) == ["early"]

    async def test_the_owner_knows_when_its_peer_was_heard_last(self) -> None:
        async with listening() as ours, library_connect(ours.url) as client:
            owner = await ours.owner()
            before = time.monotonic()
            await client.send("x")
            await owner.received_texts(1)
            assert before <= owner.ws.received_seconds <= time.monotonic()
            assert owner.ws.peer_address == "127.0.0.1"
            assert owner.ws.is_open


class TestEnds:
    async def test_the_peer_closes(self) -> None:
        async with listening() as ours:
            async with library_connect(ours.url) as client:
                owner = await ours.owner()
                await client.close(4001, "had enough")
            assert await owner.closed_with() == (4001, "had enough")
            assert client.close_code == 4001
            assert not owner.ws.is_open

    async def test_the_owner_closes(self) -> None:
        async with listening() as ours, library_connect(ours.url) as client:
            owner = await ours.owner()
            owner.ws.send_text(b"last words")
            owner.ws.close(1013, "no capacity")
            assert not owner.ws.is_open
            assert await client.recv() == "last words"
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
            assert (close_code(closed.value), closed.value.rcvd and closed.value.rcvd.reason) == (
                1013,
                "no capacity",
            )
            assert await owner.closed_with() == (1013, "no capacity")

    async def test_a_long_reason_is_cut_between_characters(self) -> None:
        async with listening() as ours, library_connect(ours.url) as client:
            owner = await ours.owner()
            owner.ws.close(1000, "x" + 100 * "é")
            await client.wait_closed()
            assert client.close_reason == "x" + 61 * "é"

    async def test_messages_sent_after_a_close_are_dropped(self) -> None:
        async with listening() as ours, library_connect(ours.url) as client:
            owner = await ours.owner()
            owner.ws.close(1000)
            owner.ws.close(1001)
            owner.ws.send_text(b"too late")
            owner.ws.send_binary(b"too late")
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
            assert close_code(closed.value) == 1000
            await owner.closed_with()
            owner.ws.send_text(b"later still")
            owner.ws.close(1000)
            owner.ws.abort()

    async def test_a_lost_connection_is_1006(self) -> None:
        async with listening() as ours, library_connect(ours.url) as client:
            owner = await ours.owner()
            client.transport.abort()
            assert await owner.closed_with() == (1006, "")

    async def test_a_connection_that_ends_within_a_message_is_1006(self) -> None:
        async with listening() as ours, await RawPeer.handshaken(ours.port) as peer:
            owner = await ours.owner()
            peer.send(frame(TEXT, b"a part", fin=False) + b"\x80")
            peer.writer.write_eof()
            assert await owner.closed_with() == (1006, "")
            assert owner.messages == []

    async def test_an_abort_is_1006_on_both_sides(self) -> None:
        async with listening() as ours, library_connect(ours.url) as client:
            owner = await ours.owner()
            owner.ws.abort()
            assert await owner.closed_with() == (1006, "")
            await client.wait_closed()
            assert client.close_code == 1006

    async def test_messages_before_the_peers_close_frame_are_delivered(self) -> None:
        # As a worker's last records are, when it closes its link behind them.
        async with listening() as ours, await RawPeer.handshaken(ours.port) as peer:
            owner = await ours.owner()
            peer.send(frame(TEXT, b"last words") + frame(CLOSE, b"\x03\xe8"))
            assert await owner.closed_with() == (1000, "")
            assert owner.messages == [(b"last words", True)]

    async def test_messages_behind_our_close_frame_are_not(self) -> None:
        async with listening() as ours, await RawPeer.handshaken(ours.port) as peer:
            owner = await ours.owner()
            owner.ws.close(1008, "enough")
            assert (await peer.read_frame())[0] == CLOSE
            peer.send(frame(TEXT, b"still talking") + frame(CLOSE, b"\x03\xf0"))
            assert await owner.closed_with() == (1008, "")
            assert owner.messages == []

    @pytest.mark.parametrize("peer_answers", [True, False])
    async def test_close_all_ends_within_its_time(self, peer_answers: bool) -> None:
        async with listening() as ours:
            peers = [await RawPeer.handshaken(ours.port) for _ in range(3)]
            await eventually(lambda: len(ours.owners) == 3)
            if peer_answers:
                for peer in peers:
                    peer.send(frame(CLOSE, b"\x03\xe9"))
            # Without an answer, the closing handshake alone would take longer.
            await close_all([owner.ws for owner in ours.owners], 1001, "going", timeout_seconds=0.1)
            for owner in ours.owners:
                await asyncio.wait_for(owner.is_closed.wait(), Limits().close_timeout_seconds / 2)
                assert owner.closings[0][0] == (1001 if peer_answers else 1006)
            for peer in peers:
                await peer.close()


class TestViolations:
    async def test_an_oversize_message_is_1009(self) -> None:
        async with (
            listening(limits=Limits(max_message_bytes=1000, linger_seconds=0.1)) as ours,
            library_connect(ours.url) as client,
        ):
            owner = await ours.owner()
            await client.send("x" * 1000)
            await client.send("x" * 1001)
            await client.wait_closed()
            assert client.close_code == 1009
            await owner.closed_with()
        assert [len(data) for data, _ in owner.messages] == [1000]
        assert [code for code, _ in owner.violations] == [1009]

    async def test_the_sum_of_fragments_counts(self) -> None:
        async with (
            listening(limits=Limits(max_message_bytes=1000, linger_seconds=0.1)) as ours,
            library_connect(ours.url) as client,
        ):
            owner = await ours.owner()
            await client.send(["x" * 600, "x" * 400])
            with contextlib.suppress(ConnectionClosed):
                await client.send(["x" * 600, "x" * 401])
            await client.wait_closed()
            assert client.close_code == 1009
            await owner.closed_with()
        assert [len(data) for data, _ in owner.messages] == [1000]

    async def test_the_owner_chooses_the_code_and_says_why(self) -> None:
        def explain(owner: Recorder, _: int) -> int:
            owner.ws.send_text(b"too long")
            return 1008

        limits = Limits(max_message_bytes=1000, linger_seconds=0.1)
        async with listening(lambda: Recorder(explain), limits=limits) as ours:
            async with library_connect(ours.url) as client:
                await client.send("x" * 1001)
                assert await client.recv() == "too long"
                with pytest.raises(ConnectionClosed) as closed:
                    await client.recv()
                assert close_code(closed.value) == 1008
            await (await ours.owner()).closed_with()

    async def test_the_reason_reaches_a_peer_that_is_still_sending(self) -> None:
        def explain(owner: Recorder, _: int) -> int:
            owner.ws.send_text(b"too long")
            return 1008

        limits = Limits(max_message_bytes=1000, linger_seconds=0.1)
        async with listening(lambda: Recorder(explain), limits=limits) as ours:
            async with await RawPeer.handshaken(ours.port) as peer:
                # Much more than the socket buffers of both sides hold, and nothing is read while it is sent.
                peer.send(frame(TEXT, bytes(20_000_000)))
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await peer.writer.drain()
                assert await peer.read_frame() == (TEXT, b"too long")
                opcode, payload = await peer.read_frame()
                assert (opcode, close_frame_code(payload)) == (CLOSE, 1008)
                # And then comes the end, not a reset.
                assert await peer.read_to_end() == b""
            assert (await (await ours.owner()).closed_with())[0] == 1006

    async def test_messages_in_front_of_a_broken_one_are_delivered_first(self) -> None:
        seen: list[int] = []

        def count(owner: Recorder, code: int) -> int:
            seen.append(len(owner.messages))
            return code

        async with listening(lambda: Recorder(count)) as ours, await RawPeer.handshaken(ours.port) as peer:
            peer.send(frame(TEXT, b"good") + frame(TEXT, b"not masked", masked=False))
            opcode, payload = await peer.read_frame()
            assert (opcode, close_frame_code(payload)) == (CLOSE, 1002)
        assert ours.owners[0].messages == [(b"good", True)]
        assert seen == [1]

    @pytest.mark.parametrize(
        "raw",
        [
            frame(3),
            frame(TEXT, masked=False),
            frame(CONTINUATION),
            frame(TEXT, fin=False) + frame(TEXT),
            frame(PING, bytes(126)),
            frame(PING, fin=False),
            frame(CLOSE, b"\x03"),
            frame(CLOSE, b"\x03\xee"),  # 1006
            frame(CLOSE, b"\x00\x01"),
            frame(CLOSE, b"\x03\xe8\xff"),
            frame(TEXT, fin=False) + frame(CLOSE, b"\x03\xe8"),
            b"\xc1\x80\x00\x00\x00\x00",
            frame(TEXT, bytes(2**20 + 1)),
            b"\x81\xff" + b"\xff" * 8,
        ],
        ids=[
            "unknown opcode",
            "not masked",
            "continuation of nothing",
            "message within a message",
            "long ping",
            "fragmented ping",
            "close frame of one byte",
            "close code 1006",
            "close code 1",
            "close reason not UTF-8",
            "close within a message",
            "compressed",
            "over the limit",
            "2**64 bytes",
        ],
    )
    async def test_a_violation_ends_the_connection_once(self, raw: bytes) -> None:
        async with listening() as ours:
            async with await RawPeer.handshaken(ours.port) as peer:
                peer.send(raw)
                opcode, payload = await peer.read_frame()
                assert opcode == CLOSE
                assert close_frame_code(payload) in (1002, 1007, 1009)
            owner = await ours.owner()
            await owner.closed_with()
            assert len(owner.violations) == 1
            assert owner.messages == []

    @pytest.mark.parametrize(
        ("first", "flood"),
        [(b"", frame(PING)), (b"", frame(PONG)), (frame(TEXT, fin=False), frame(CONTINUATION, fin=False))],
        ids=["pings", "pongs", "empty fragments"],
    )
    async def test_a_flood_of_frames_without_messages_ends_the_connection(
        self, first: bytes, flood: bytes
    ) -> None:
        async with listening(limits=NO_PINGS) as ours, await RawPeer.handshaken(ours.port) as peer:
            owner = await ours.owner()
            peer.send(first)
            flooding = asyncio.create_task(peer.flood(flood * 1000))
            await eventually(lambda: owner.violations, PATIENCE_SECONDS)
            assert [code for code, _ in owner.violations] == [1008]
            await owner.closed_with()
            await flooding

    async def test_a_flood_with_a_broken_frame_ends_the_connection_once(self) -> None:
        async with listening(limits=NO_PINGS) as ours:
            async with await RawPeer.handshaken(ours.port) as peer:
                peer.send(frame(PONG) * 2500 + frame(3))
                opcode, payload = await peer.read_frame()
                assert (opcode, close_frame_code(payload)) == (CLOSE, 1008)
            owner = await ours.owner()
            await owner.closed_with()
            assert len(owner.violations) == 1

    async def test_garbage_ends_its_own_connection_alone(self) -> None:
        random = Random(1)
        async with listening() as ours, library_connect(ours.url) as neighbour:
            for _ in range(200):
                async with await RawPeer.handshaken(ours.port) as peer:
                    # Mostly frames that are almost right: garbage alone is broken at its first byte.
                    parts = [
                        bytes([random.choice([0x00, 0x01, 0x80, 0x81, 0x82, 0x88, 0x89, random.randrange(256)])])
                        + bytes([0x80 | random.randrange(128)])
                        + random.randbytes(random.randrange(200))
                        for _ in range(random.randrange(1, 6))
                    ]
                    peer.send(b"".join(parts))
                    peer.writer.write_eof()
                    await peer.gone()
                await ours.owners[-1].closed_with()
            await neighbour.send("still here")
            assert await ours.owners[0].received_texts(1) == ["still here"]

    async def test_many_fragments_of_a_fast_message_are_no_flood(self) -> None:
        async with listening(limits=NO_PINGS) as ours, await RawPeer.handshaken(ours.port) as peer:
            owner = await ours.owner()
            for _ in range(50):
                parts = [frame(CONTINUATION, b"x" * 100, fin=False)] * 10
                peer.send(frame(TEXT, fin=False) + b"".join(parts) + frame(CONTINUATION))
            assert await owner.received_texts(50) == ["x" * 1000] * 50


class TestTime:
    async def test_pings_are_sent_and_a_peer_that_answers_them_is_alive(self) -> None:
        limits = Limits(ping_interval_seconds=0.02, silence_timeout_seconds=0.1)
        async with listening(limits=limits) as ours, await RawPeer.handshaken(ours.port) as peer:
            owner = await ours.owner()
            for _ in range(20):
                opcode, payload = await peer.read_frame()
                assert opcode == PING
                peer.send(frame(PONG, payload))
            assert not owner.is_closed.is_set()

    async def test_a_peer_that_stops_is_lost_after_the_silence(self) -> None:
        limits = Limits(ping_interval_seconds=0.02, silence_timeout_seconds=0.1)
        async with listening(limits=limits) as ours, await RawPeer.handshaken(ours.port) as peer:
            owner = await ours.owner()
            heard_seconds = owner.ws.received_seconds
            assert await owner.closed_with() == (1006, "")
            assert time.monotonic() - heard_seconds > 0.1
            await peer.gone()

    async def test_without_a_silence_limit_a_silent_peer_is_kept(self) -> None:
        limits = Limits(ping_interval_seconds=0.01, silence_timeout_seconds=None)
        async with listening(limits=limits) as ours, await RawPeer.handshaken(ours.port) as peer:
            owner = await ours.owner()
            for _ in range(20):
                assert (await peer.read_frame())[0] == PING
            assert not owner.is_closed.is_set()

    async def test_a_stall_of_this_process_is_not_the_silence_of_its_peer(self) -> None:
        limits = Limits(ping_interval_seconds=0.05, silence_timeout_seconds=0.15)
        async with listening(limits=limits) as ours:

            def peer() -> object:
                with threaded_connect(ours.url) as client:
                    return client.recv(PATIENCE_SECONDS)

            answer = asyncio.create_task(asyncio.to_thread(peer))
            owner = await ours.owner()
            # The peer, in a thread of its own, goes on; it is this event loop that stands still.
            time.sleep(0.5)  # noqa: ASYNC251
            # Behind the timers that are due by now.
            await asyncio.sleep(0)
            owner.ws.send_text(b"are you there?")
            assert await answer == "are you there?"

    async def test_a_handshake_that_trickles_is_cut_off(self) -> None:
        async with listening(limits=Limits(open_timeout_seconds=0.2)) as ours:
            async with await RawPeer.connect(ours.port) as peer:
                gone = asyncio.create_task(peer.gone())
                # A byte now and then, never a whole request.
                while not gone.done():
                    peer.send(b"X")
                    await asyncio.wait([gone], timeout=0.01)
            assert ours.owners == []

    async def test_a_handshake_that_never_begins_is_cut_off(self) -> None:
        async with listening(limits=Limits(open_timeout_seconds=0.1)) as ours:
            async with await RawPeer.connect(ours.port) as peer:
                await peer.gone()
            assert ours.owners == []

    async def test_a_close_frame_that_is_not_answered_ends_in_an_abort(self) -> None:
        async with listening(limits=SHORT_ENDS) as ours, await RawPeer.handshaken(ours.port):
            owner = await ours.owner()
            owner.ws.close(1000)
            assert await owner.closed_with() == (1006, "")

    @pytest.mark.parametrize("flood", [frame(TEXT, bytes(1000)), frame(PING), frame(BINARY)])
    @pytest.mark.parametrize("violated", [True, False])
    async def test_a_flood_after_our_close_frame_ends_the_connection(self, flood: bytes, violated: bool) -> None:
        async with listening(limits=SHORT_ENDS) as ours, await RawPeer.handshaken(ours.port) as peer:
            owner = await ours.owner()
            if violated:
                peer.send(frame(3))
            else:
                owner.ws.close(1008, "enough")
            flooding = asyncio.create_task(peer.flood(flood * 100))
            await owner.closed_with()
            assert owner.messages == []
            async with asyncio.timeout(PATIENCE_SECONDS):
                await flooding

    async def test_a_closing_peer_that_does_not_read_is_disconnected(self) -> None:
        async with (
            listening(limits=SHORT_ENDS) as ours,
            await RawPeer.handshaken(ours.port, receive_buffer_bytes=4096) as peer,
        ):
            owner = await ours.owner()
            owner.ws.send_binary(bytes(7_000_000))
            await eventually(lambda: owner.ws.write_paused, PATIENCE_SECONDS)
            peer.send(frame(CLOSE, b"\x03\xe8"))
            assert (await owner.closed_with())[0] == 1000


class TestWriting:
    async def test_an_owner_sees_when_its_peer_stops_and_resumes_reading(self) -> None:
        async with listening() as ours, await RawPeer.handshaken(ours.port, receive_buffer_bytes=4096) as peer:
            owner = await ours.owner()
            messages = 0

            def is_paused_by_one_more() -> bool:
                nonlocal messages
                owner.ws.send_binary(bytes(100_000))
                messages += 1
                return owner.ws.write_paused

            await eventually(is_paused_by_one_more, PATIENCE_SECONDS)
            assert owner.ws.write_buffer_bytes > 0
            assert owner.writable_calls == 0
            for _ in range(messages):
                assert await peer.read_frame() == (BINARY, bytes(100_000))
            await eventually(lambda: owner.writable_calls, PATIENCE_SECONDS)
            assert not owner.ws.write_paused
            assert owner.writable_calls == 1

    async def test_an_owner_that_does_not_care_is_cut_off(self) -> None:
        limits = Limits(max_write_buffer_bytes=1_000_000)
        async with (
            listening(limits=limits) as ours,
            await RawPeer.handshaken(ours.port, receive_buffer_bytes=4096),
        ):
            owner = await ours.owner()
            sent_bytes = 0
            while not owner.is_closed.is_set():
                owner.ws.send_binary(bytes(100_000))
                sent_bytes += 100_000
                # What the kernel takes is not ours to bound; it is a few MB at most.
                assert sent_bytes < 20_000_000
                await asyncio.sleep(0)
            assert await owner.closed_with() == (1006, "")


class TestOwnersThatRaise:
    """A bug of an owner ends its own connection; the listener and the others stay as they were."""

    @pytest.mark.parametrize("method", ["opened", "received", "violated"])
    async def test_an_owner_that_raises_is_told_of_the_end(
        self, method: str, loop_failures: list[dict[str, Any]]
    ) -> None:
        class Broken(Recorder):
            def __init__(self) -> None:
                super().__init__()
                original = getattr(self, method)

                def broken(*arguments: Any) -> None:
                    original(*arguments)
                    raise RuntimeError("a bug")

                setattr(self, method, broken)

        owners = iter([Recorder(), Broken()])
        async with listening(lambda: next(owners)) as ours, library_connect(ours.url) as neighbour:
            await ours.owner()
            async with await RawPeer.connect(ours.port) as peer:
                peer.send(HANDSHAKE)
                if method != "opened":
                    await peer.read_until(b"\r\n\r\n")
                    peer.send(frame(TEXT, b"x") + frame(3))
                await peer.gone()
                assert (await ours.owners[1].closed_with())[0] == 1006
            await neighbour.send("still here")
            assert await ours.owners[0].received_texts(1) == ["still here"]
        assert [str(failure["exception"]) for failure in loop_failures] == ["a bug"]
        loop_failures.clear()

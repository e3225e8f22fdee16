"""The older AVR protocol: arbitrary HTTP in arbitrary pieces, on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from http import HTTPStatus

import h11
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.avr.legacy import PATH, LegacyConnection
from tests.fuzz.budget import TALLY, examples
from tests.fuzz.inputs import bent

HEAD = f"POST {PATH}?from=100 HTTP/1.1\r\nHost: x\r\nX-UUID: call-1\r\nTransfer-Encoding: chunked\r\n\r\n".encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Caller:
    """The call behind a request, with its inputs in order."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.pcm_bytes = 0

    def legacy_began(self, connection: LegacyConnection, uuid: str) -> None:
        self.told.append("began")
        connection.mark_identified()
        connection.play(bytes(320))

    def legacy_audio(self, pcm: bytes, received_seconds: float) -> None:
        assert pcm
        assert len(pcm) % 2 == 0
        self.told.append("audio")
        self.pcm_bytes += len(pcm)

    def legacy_broken(self, reason: str, message: str) -> None:
        self.told.append("broken")

    def writable(self) -> None:
        self.told.append("writable")

    def closed(self, code: int, reason: str) -> None:
        assert code in (1000, 1006)
        self.told.append("closed")


pieces_of_http = st.one_of(
    st.binary(max_size=40),
    st.just(HEAD),
    st.just(HEAD).flatmap(bent),
    st.binary(max_size=700).map(chunk),
    st.sampled_from(
        [b"0\r\n\r\n", b"\r\n", b"ffffffffffff\r\n", b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n", b"5;" + b"x" * 20_000]
    ),
)


@examples(6_000)
@given(st.booleans(), st.lists(pieces_of_http, max_size=8))
def test_any_input_is_told_in_order_and_leaves_nothing(begins: bool, pieces: list[bytes]) -> None:
    TALLY.took("older AVR protocol", len(pieces))

    async def talk() -> None:
        loop = asyncio.get_running_loop()
        callers: list[Caller] = []

        def owner_of(
            target: str, authorization: str | None, origins: Sequence[str]
        ) -> Caller | tuple[HTTPStatus, str]:
            if authorization is not None:
                return HTTPStatus.UNAUTHORIZED, "not you\n"
            callers.append(Caller())
            return callers[-1]

        mine, theirs = socket.socketpair()
        theirs.setblocking(False)
        connection = LegacyConnection(owner_of)
        await loop.connect_accepted_socket(lambda: connection, mine)
        for piece in ([HEAD] if begins else []) + pieces:
            # Pieces as the transport delivers them (never empty), but cut at arbitrary places.
            if piece:
                connection.data_received(piece)
        connection.abort()
        await asyncio.wait_for(connection.wait_closed(), 5)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while data := await loop.sock_recv(theirs, 65536):
                answer += data
        theirs.close()
        # The answer is HTTP, or empty.
        if answer:
            reader = h11.Connection(h11.CLIENT)
            reader.send(h11.Request(method="POST", target=PATH, headers=[("Host", "x")]))
            reader.receive_data(answer)
            assert isinstance(reader.next_event(), h11.Response)
        assert len(callers) <= 1
        for caller in callers:
            assert caller.told[0] == "began"
            assert caller.told.count("began") == 1
            assert caller.told[-1] == "closed"
            assert caller.told.count("closed") == 1
        assert connection._playing is None
        assert connection._timer is None or connection._timer.cancelled() or not connection._timer.when()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(talk())

"""HTTP proxies: which connections go through one, and what a proxy may answer."""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from common.errors import ProxyFailed
from common.net.proxy import MAX_ANSWER_BYTES, Proxies, tunnel

HTTPS, HTTP = "http://proxy.example:3128", "http://other.example:3128"
TARGET = "wss://api.openai.com/v1/realtime?model=m"


class TestChoice:
    @pytest.mark.parametrize(
        ("url", "expected"),
        [
            (TARGET, HTTPS),
            ("https://instructions.example/prompt", HTTPS),
            ("http://instructions.example/prompt", HTTP),
            ("ws://realtime.example:8080", HTTP),
            # Loopback is never behind a proxy.
            ("ws://127.0.0.1:8080", None),
            ("ws://127.9.9.9:8080", None),
            ("ws://[::1]:8080", None),
            ("ws://localhost:8080", None),
        ],
    )
    def test_a_proxy_is_chosen_by_scheme(self, url: str, expected: str | None) -> None:
        assert Proxies(HTTPS, HTTP).of(url) == expected

    @pytest.mark.parametrize(
        ("direct", "url", "is_direct"),
        [
            ("api.openai.com", TARGET, True),
            ("openai.com", TARGET, True),
            (".openai.com", TARGET, True),
            ("*", TARGET, True),
            ("other.com, openai.com", TARGET, True),
            ("api.openai.com:443", TARGET, False),
            ("realtime.example:8080", "ws://realtime.example:8080", True),
            ("realtime.example:8081", "ws://realtime.example:8080", False),
            ("ai.com", TARGET, False),
            ("10.0.0.0/8", "ws://10.1.2.3:80", True),
            ("10.0.0.0/8, nonsense/x", "ws://11.1.2.3:80", False),
            ("fd00::/8", "ws://[fd00::1]:80", True),
            ("10.1.2.3", "ws://10.1.2.3:80", True),
            ("", TARGET, False),
        ],
    )
    def test_hosts_of_no_proxy_are_reached_directly(self, direct: str, url: str, is_direct: bool) -> None:
        assert (Proxies(HTTPS, HTTP, direct).of(url) is None) is is_direct

    def test_without_proxies_all_is_direct(self) -> None:
        assert Proxies().of(TARGET) is None
        assert Proxies(https=HTTPS).of("ws://realtime.example") is None


@asynccontextmanager
async def proxy(*pieces: bytes, hangs_up: bool = False) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Run a proxy that answers requests in these pieces, and then echoes; yield its address and the requests."""
    requests: list[bytes] = []
    served: list[asyncio.Future[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(asyncio.get_running_loop().create_future())
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if not hangs_up:
            while data := await reader.read(1024):
                writer.write(data)
        writer.close()
        await writer.wait_closed()
        served[-1].set_result(None)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", requests
        await asyncio.gather(*served)


class TestTunnel:
    async def test_the_far_end_speaks_on_the_socket(self) -> None:
        async with proxy(b"HTTP/1.0 200 Connect", b"ion established\r\nProxy-agent: x\r\n\r", b"\n") as (
            address,
            asked,
        ):
            sock = await tunnel(f"http://{address}", TARGET)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(sock, b"hello")
            assert await loop.sock_recv(sock, 100) == b"hello"
            sock.close()
        (request,) = asked
        assert request.startswith(b"CONNECT api.openai.com:443 HTTP/1.1\r\nHost: api.openai.com\r\n")
        assert b"Proxy-Authorization" not in request

    async def test_user_and_password_are_shown_to_the_proxy(self) -> None:
        async with proxy(b"HTTP/1.1 200 OK\r\n\r\n") as (address, asked):
            (await tunnel(f"http://me:p%40ss@{address}", TARGET)).close()
        credentials = base64.b64encode(b"me:p@ss").decode()
        assert f"Proxy-Authorization: Basic {credentials}\r\n".encode() in asked[0]

    @pytest.mark.parametrize(
        ("answer", "message", "retryable"),
        [
            (
                b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
                "HTTP 407: it wants another user",
                False,
            ),
            (b"HTTP/1.1 403 Filtered\r\n\r\n", "HTTP 403: it does not allow this host", False),
            (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "HTTP 502$", True),
            (b"SSH-2.0-OpenSSH\r\n\r\n", "its answer is not HTTP", True),
            (b"HTTP/1.1 200 OK\r\n", "it closed the connection", True),
            (b"HTTP/1.1 200 " + bytes(MAX_ANSWER_BYTES + 1), "longer than 16384 bytes", True),
        ],
    )
    async def test_a_proxy_that_refuses_is_named(self, answer: bytes, message: str, retryable: bool) -> None:
        async with proxy(answer, hangs_up=True) as (address, _):
            with pytest.raises(ProxyFailed, match=message) as raised:
                await tunnel(f"http://me:secret-word@{address}", TARGET)
        assert raised.value.retryable is retryable
        assert f"the proxy {address} (HTTPS_PROXY)" in str(raised.value)
        assert "secret-word" not in str(raised.value)

    async def test_a_proxy_that_is_away_is_named(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with pytest.raises(ProxyFailed, match=rf"the proxy 127.0.0.1:{port} \(HTTP_PROXY\) cannot be reached"):
            await tunnel(f"http://127.0.0.1:{port}", "ws://realtime.example")

"""The reasons for a connection that cannot be opened, each from a real server with that fault."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from common.net.ports import listen_socket, port_of
from common.observe import admin
from simulator.avr.core import CallError, place_call
from tests.certificates import Authority, tls_in_front_of
from tests.simulator.avr_service import avr_service


async def _reason(url: str, tls: ssl.SSLContext | None = None) -> str:
    with pytest.raises(CallError) as refusal:
        await place_call(url + "?token=secret", tls=tls, connect_timeout_seconds=2.0)
    start = f"cannot connect to {url}: "
    assert str(refusal.value).startswith(start)
    return str(refusal.value).removeprefix(start)


async def test_plain_url_to_a_tls_port(tmp_path: Path) -> None:
    files = Authority(tmp_path).issue()
    async with avr_service() as service, tls_in_front_of(service.url, files) as port:
        assert await _reason(f"ws://127.0.0.1:{port}") == "this port speaks TLS: use wss:// in place of ws://"


async def test_tls_url_to_a_plain_port() -> None:
    async with avr_service() as service:
        url = service.url.replace("ws:", "wss:")
        assert await _reason(url) == "this port does not speak TLS: use ws:// in place of wss://"


async def test_tls_url_to_a_plain_port_that_waits_for_more() -> None:
    async def wait_for_a_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.read(1)
        if first == b"G":
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(wait_for_a_request, "127.0.0.1", 0)
    async with server:
        url = f"wss://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        assert await _reason(url) == "this port does not speak TLS: use ws:// in place of wss://"


async def test_certificate_of_an_unknown_ca_names_the_remedy(tmp_path: Path) -> None:
    files = Authority(tmp_path).issue()
    async with avr_service() as service, tls_in_front_of(service.url, files) as port:
        why = await _reason(f"wss://127.0.0.1:{port}", Authority(tmp_path / "other").trust())
    assert why.startswith("an unknown CA signed its certificate: set SSL_CERT_FILE to ")


async def test_certificate_for_another_name(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with avr_service() as service, tls_in_front_of(service.url, authority.issue("sts.example")) as port:
        why = await _reason(f"wss://127.0.0.1:{port}", authority.trust())
    assert why.startswith("its certificate is not for 127.0.0.1: ")


async def test_certificate_that_has_expired() -> None:
    ca = trustme.CA()
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    leaf = ca.issue_cert("127.0.0.1", not_before=past - datetime.timedelta(days=9), not_after=past)
    trust = ssl.create_default_context()
    ca.configure_trust(trust)
    async with _tls_port(leaf) as port:
        assert await _reason(f"wss://127.0.0.1:{port}", trust) == "its certificate has expired: renew it"


@asynccontextmanager
async def _tls_port(leaf: trustme.LeafCert) -> AsyncIterator[int]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    leaf.configure_cert(context)

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("calls_port", "told"),
    [
        (6030, "this is the admin port: calls go to PORT, ws://127.0.0.1:6030"),
        (None, "this is the admin port of a worker: calls go to PORT of a dispatcher"),
    ],
)
async def test_admin_port_is_recognized(calls_port: int | None, told: str) -> None:
    sock = listen_socket("127.0.0.1", 0, variable="ADMIN_PORT")
    runner = await admin.serve(admin.application(lambda: True, "", calls_port=calls_port), sock)
    try:
        assert await _reason(f"ws://127.0.0.1:{port_of(sock)}") == told
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("url", ["http//x", "ftp://127.0.0.1:1", "ws://127.0.0.1:99999"])
async def test_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(CallError, match="not a ws:// or wss:// address"):
        await place_call(url)

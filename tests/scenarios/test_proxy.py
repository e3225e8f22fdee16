"""The service behind an HTTP proxy: Debian's tinyproxy, with a user and a password, and TLS inside the tunnel."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from common.net.ports import port_of, reserve_port
from simulator.avr.core import place_call
from simulator.realtime.server import RealtimeSimulator
from tests.certificates import Authority, tls_in_front_of
from tests.helpers import eventually, needed_program
from tests.scenarios.processes import BRIEF, PATIENCE_SECONDS, Cluster

pytestmark = pytest.mark.system

# A name that the resolver maps to loopback, because the service never uses a proxy for loopback addresses.
HOST = "127.1"
USER = "avr:proxy-password"


async def accepts(port: int) -> bool:
    """Return whether a process listens on this port."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


@contextlib.asynccontextmanager
async def tinyproxy(folder: Path) -> AsyncIterator[tuple[str, Path]]:
    """Run a proxy; yield its address and its log file."""
    log = folder / "tinyproxy.log"
    with reserve_port("127.0.0.1", 0, variable="Port") as reserved:
        port = port_of(reserved)
    lines = (
        f"Port {port}",
        "Listen 127.0.0.1",
        "Allow 127.0.0.1",
        f"BasicAuth {USER.replace(':', ' ')}",
        f'LogFile "{log}"',
        "LogLevel Connect",
        "",
    )
    (folder / "tinyproxy.conf").write_text("\n".join(lines), "utf-8")
    process = await asyncio.create_subprocess_exec(
        needed_program("tinyproxy"), "-d", "-c", str(folder / "tinyproxy.conf")
    )
    try:
        await eventually(lambda: accepts(port), PATIENCE_SECONDS)
        yield f"127.0.0.1:{port}", log
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()


@contextlib.asynccontextmanager
async def instructions(asked: list[str]) -> AsyncIterator[int]:
    """Run a web service for OPENAI_URL_INSTRUCTIONS; yield its port."""

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.headers.get("X-AVR-UUID", ""))
        return web.json_response({"system": "You are behind a proxy."})

    app = web.Application()
    app.router.add_get("/prompt", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("user", [USER, "avr:another-password"], ids=["its password", "a wrong password"])
async def test_calls_go_through_a_proxy(tmp_path: Path, real_redis_url: str, user: str) -> None:
    authority = Authority(tmp_path / "ca")
    asked: list[str] = []
    async with (
        RealtimeSimulator(BRIEF) as simulator,
        tls_in_front_of(simulator.url, authority.issue(HOST)) as upstream_port,
        instructions(asked) as instructions_port,
        tinyproxy(tmp_path) as (address, log),
        Cluster(
            real_redis_url,
            f"wss://{HOST}:{upstream_port}/v1/realtime",
            OPENAI_URL_INSTRUCTIONS=f"http://{HOST}:{instructions_port}/prompt",
            SSL_CERT_FILE=authority.path,
            HTTPS_PROXY=f"http://{user}@{address}",
            http_proxy=f"http://{user}@{address}",
            FALLBACK_WAV="none",
        ) as cluster,
    ):
        await cluster.start(workers=1)
        call = await place_call(await cluster.url())
        if user == USER:
            await call.wait_for(lambda c: c.received_pcm, timeout_seconds=PATIENCE_SECONDS)
            session = await simulator.wait_for_session()
            assert session.session["instructions"] == "You are behind a proxy."
            assert asked == [call.uuid]
            for port in (upstream_port, instructions_port):
                assert f"{HOST}:{port}" in log.read_text("utf-8")
            await call.hang_up()
        else:
            await asyncio.wait_for(call.closed.wait(), PATIENCE_SECONDS)
            (error,) = call.errors
            assert error.message.startswith(
                f"the proxy {address} (HTTPS_PROXY) answered HTTP 401: it wants another"
            )
            assert not asked
    assert "another-password" not in cluster.logs

"""TLS on every connection of the service, and the refusal of untrusted certificates."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from common.net.tls import TlsFiles
from simulator.avr.core import CallError, place_call
from simulator.realtime.server import RealtimeSimulator
from tests.certificates import Authority, self_signed, tls_in_front_of
from tests.scenarios.processes import BRIEF, PATIENCE_SECONDS, Cluster


def tls_settings(prefix: str, files: TlsFiles) -> dict[str, object]:
    settings = {f"{prefix}TLS_CERT": files.cert, f"{prefix}TLS_KEY": files.key}
    return settings | ({f"{prefix}TLS_CA": files.ca} if prefix else {})


async def test_a_call_with_tls_on_port_link_redis_and_upstream(tmp_path: Path, real_redis_url: str) -> None:
    public, cluster_ca = Authority(tmp_path / "public"), Authority(tmp_path / "cluster")
    port_files = public.issue(as_file="port")
    async with (
        RealtimeSimulator(BRIEF) as simulator,
        tls_in_front_of(simulator.url, public.issue(as_file="openai")) as upstream_port,
        tls_in_front_of(real_redis_url, public.issue(as_file="redis")) as redis_port,
        Cluster(
            f"rediss://127.0.0.1:{redis_port}/0",
            f"wss://127.0.0.1:{upstream_port}/v1/realtime",
            SSL_CERT_FILE=public.path,
            CLUSTER_TOKEN="the-token-of-the-cluster",
            **tls_settings("", port_files),
            **tls_settings("CLUSTER_", cluster_ca.issue("avr-sts.example", as_file="member")),
        ) as cluster,
    ):
        await cluster.start(workers=1)
        url = (await cluster.url()).replace("ws://", "wss://")
        call = await place_call(url, metadata={"from": "100"}, tls=public.trust())
        await call.wait_for(lambda c: c.transcripts, timeout_seconds=PATIENCE_SECONDS)
        # A client that does not trust the certificate is not connected, and plain text is refused.
        for tls, wrong in ((cluster_ca.trust(), url), (None, url.replace("wss://", "ws://"))):
            with pytest.raises(CallError, match="cannot connect"):
                await place_call(wrong, tls=tls)
        # The older protocol works on the same port.
        reader, writer = await asyncio.open_connection("127.0.0.1", _port(url), ssl=public.trust())
        writer.write(b"POST /speech-to-speech-stream HTTP/1.1\r\nHost: x\r\nX-UUID: -\r\n\r\n")
        assert (await asyncio.wait_for(reader.readline(), PATIENCE_SECONDS)).startswith(b"HTTP/1.1 400 ")
        writer.close()
        assert not call.closed.is_set()
        await call.hang_up()


def _port(url: str) -> int:
    return int(url.rstrip("/").rpartition(":")[2])


@pytest.mark.parametrize("trusted", [True, False], ids=["of a trusted CA", "self-signed"])
async def test_the_realtime_api_shows_a_certificate(tmp_path: Path, real_redis_url: str, trusted: bool) -> None:
    authority = Authority(tmp_path / "ca")
    files = authority.issue() if trusted else self_signed(tmp_path / "nobody")
    async with (
        RealtimeSimulator(BRIEF) as simulator,
        tls_in_front_of(simulator.url, files) as port,
        Cluster(
            real_redis_url,
            f"wss://127.0.0.1:{port}/v1/realtime",
            SSL_CERT_FILE=authority.path,
            FALLBACK_WAV="none",
        ) as cluster,
    ):
        await cluster.start(workers=1)
        call = await place_call(await cluster.url())
        if trusted:
            await call.wait_for(lambda c: c.received_pcm, timeout_seconds=PATIENCE_SECONDS)
            await call.hang_up()
            return
        await asyncio.wait_for(call.closed.wait(), PATIENCE_SECONDS)
        assert call.close_code == 1011
        assert "certificate of the Realtime API was not accepted" in call.errors[0].message
        assert not simulator.history
        assert not simulator.sessions


async def test_redis_with_an_untrusted_certificate_is_refused(
    tmp_path: Path, real_redis_url: str, simulator: RealtimeSimulator
) -> None:
    async with (
        tls_in_front_of(real_redis_url, self_signed(tmp_path)) as port,
        Cluster(f"rediss://:s3cret-password@127.0.0.1:{port}/0", simulator.url) as cluster,
    ):
        worker = await cluster.add_worker()
        line = await worker.line("redis is away")
        assert "certificate verify failed" in line["reason"]
        assert "s3cret" not in worker.raw

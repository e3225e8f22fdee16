from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis

from tests.helpers import eventually
from tests.redis_process import EmbeddedRedis


@pytest.fixture
def server() -> Iterator[EmbeddedRedis]:
    server = EmbeddedRedis()
    yield server
    server.close()


@pytest.fixture
def client(server: EmbeddedRedis) -> Iterator[redis.Redis]:
    with redis.Redis(unix_socket_path=str(server.socket), socket_timeout=30) as client:
        yield client


def _start(path: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "common.store.embedded_redis", str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(30)
    try:
        connection.connect(str(path))
    except OSError:
        connection.close()
        raise
    return connection


@pytest.mark.parametrize("stop_signal", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_without_output(tmp_path: Path, stop_signal: signal.Signals) -> None:
    process = _start(tmp_path / "s")
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    with redis.Redis(unix_socket_path=str(tmp_path / "s")) as client:
        client.set("key", "value")  # a client that is still connected does not hold up the end
        process.send_signal(stop_signal)
        rest, errors = process.communicate(timeout=20)
    assert (process.returncode, rest, errors) == (0, b"", b"")
    with pytest.raises(ConnectionRefusedError):
        _connect(tmp_path / "s")


def test_the_server_has_no_tcp_port(server: EmbeddedRedis, client: redis.Redis) -> None:
    assert client.ping()
    assert psutil.Process(server.pid).net_connections("inet") == []


def test_a_restarted_server_reuses_the_socket_and_is_empty(server: EmbeddedRedis, client: redis.Redis) -> None:
    client.set("key", "value")
    for end in (server.stop, server.kill):
        end()
        server.start()
        with redis.Redis(unix_socket_path=str(server.socket)) as again:
            assert again.dbsize() == 0
            again.set("key", "value")


@pytest.mark.parametrize(
    ("name", "reason"), [("none/s", "No such file or directory"), ("x" * 108, "AF_UNIX path too long")]
)
def test_a_socket_that_cannot_be_made_is_one_line(tmp_path: Path, name: str, reason: str) -> None:
    process = _start(tmp_path / name)
    output, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert output == b""
    assert errors.decode() == f"Embedded Redis cannot listen on {tmp_path / name}: {reason}\n"


def test_the_server_distinguishes_its_clients(server: EmbeddedRedis) -> None:
    clients = [redis.Redis(unix_socket_path=str(server.socket), single_connection_client=True) for _ in range(2)]
    assert len({client.client_id() for client in clients}) == 2
    clients[0].close()
    assert clients[1].ping()
    clients[1].close()


def test_an_error_reply_leaves_the_connection_open(client: redis.Redis) -> None:
    identity = client.client_id()
    client.set("key", "value")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        client.lpush("key", "value")
    assert client.client_id() == identity


def test_scripts_use_the_clock_and_write(client: redis.Redis) -> None:
    seconds, _ = client.time()
    script = "redis.call('SET', KEYS[1], redis.call('TIME')[1]) return redis.call('GET', KEYS[1])"
    assert int(client.register_script(script)(keys=["key"])) >= seconds


def test_a_large_value_comes_back_whole(client: redis.Redis) -> None:
    value = bytes(range(256)) * 32_768  # 8 MiB: more than any socket buffer
    client.set("key", value)
    assert client.get("key") == value


def test_answers_a_pipeline_in_order(client: redis.Redis) -> None:
    pipeline = client.pipeline(transaction=False)
    for number in range(1000):
        pipeline.echo(str(number))
    assert pipeline.execute() == [str(number).encode() for number in range(1000)]


def test_serves_others_while_a_client_sends_half_a_command(server: EmbeddedRedis, client: redis.Redis) -> None:
    with _connect(server.socket) as slow:
        slow.sendall(b"*2\r\n$4\r\nECHO\r\n$5\r\nhe")
        assert client.ping()
        slow.sendall(b"llo\r\n")
        assert slow.recv(100) == b"+hello\r\n"


async def test_clients_that_vanish_leave_no_thread_and_no_output(tmp_path: Path) -> None:
    process = _start(tmp_path / "s")
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    observer = psutil.Process(process.pid)
    before = observer.num_threads()
    for _ in range(20):
        with _connect(tmp_path / "s") as client:
            client.sendall(b"*1\r\n$4\r\nPING\r\n")
    await eventually(lambda: observer.num_threads() == before, timeout_seconds=20)
    process.terminate()
    assert process.communicate(timeout=20) == (b"", b"")

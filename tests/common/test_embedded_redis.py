from __future__ import annotations

import json
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator

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
    with redis.Redis(port=server.port, socket_timeout=30) as client:
        yield client


def _start(*arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "common.embedded_redis", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("stop_signal", [signal.SIGTERM, signal.SIGINT])
def test_prints_its_port_and_nothing_else_and_ends_cleanly_at_a_signal(stop_signal: signal.Signals) -> None:
    process = _start()
    assert process.stdout is not None
    port = json.loads(process.stdout.readline())["port"]
    with redis.Redis(port=port) as client:  # a client that is still connected does not hold up the end
        client.set("key", "value")
        process.send_signal(stop_signal)
        rest, errors = process.communicate(timeout=20)
    assert (process.returncode, rest, errors) == (0, b"", b"")
    assert not _listens(port)


def test_listens_on_loopback_only(server: EmbeddedRedis, client: redis.Redis) -> None:
    listening = [
        connection.laddr
        for connection in psutil.Process(server.pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening == [("127.0.0.1", server.port)]


def test_starts_again_on_the_same_port_at_once_and_empty(server: EmbeddedRedis, client: redis.Redis) -> None:
    client.set("key", "value")
    port = server.port
    for end in (server.stop, server.kill):
        end()
        server.start()
        assert server.port == port
        with redis.Redis(port=port) as again:
            assert again.dbsize() == 0
            again.set("key", "value")


def test_a_taken_port_ends_it_with_one_line(server: EmbeddedRedis) -> None:
    process = _start("--port", str(server.port))
    output, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert output == b""
    assert errors.decode() == f"Embedded Redis cannot listen on 127.0.0.1:{server.port}: Address already in use\n"


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
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as slow:
        slow.sendall(b"*2\r\n$4\r\nECHO\r\n$5\r\nhe")
        assert client.ping()
        slow.sendall(b"llo\r\n")
        assert slow.recv(100) == b"+hello\r\n"


async def test_clients_that_vanish_leave_no_thread_and_no_output() -> None:
    process = _start()
    assert process.stdout is not None
    port = json.loads(process.stdout.readline())["port"]
    observer = psutil.Process(process.pid)
    before = observer.num_threads()
    reset_on_close = struct.pack("ii", 1, 0)
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset_on_close)
            client.sendall(b"*1\r\n$4\r\nPING\r\n")
    await eventually(lambda: observer.num_threads() == before, timeout_seconds=20)
    process.terminate()
    assert process.communicate(timeout=20) == (b"", b"")

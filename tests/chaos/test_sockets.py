from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.chaos import sockets

# Accepts two connections, and says what becomes of the first.
_SERVER = """
import socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
first, second = listener.accept()[0], listener.accept()[0]
print(first.recv(1), flush=True)
sys.stdin.read()
"""


@contextmanager
def _server() -> Iterator[tuple[subprocess.Popen[str], int]]:
    with subprocess.Popen(
        [sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def test_connection_of_another_process_is_cut_and_both_ends_live() -> None:
    with _server() as (process, port):
        assert process.stdout is not None
        connections = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(2)]
        with connections[0], connections[1]:
            names = {f"127.0.0.1:{each.getsockname()[1]}" for each in connections}
            assert sockets.peers_of(os.getpid(), port) == names
            assert sockets.cut(process.pid, port, process.pid) == 0, "it has no connection to itself"
            assert sockets.cut(process.pid, port, os.getpid()) == 2
            assert connections[0].recv(1) == b""
            assert process.stdout.readline() == "b''\n"
            assert process.poll() is None


def test_ended_process_has_no_sockets() -> None:
    with _server() as (process, port):
        process.kill()
        process.wait()
        assert sockets.peers_of(process.pid, port) == frozenset()
        assert sockets.cut(process.pid, port, os.getpid()) == 0

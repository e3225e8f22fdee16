"""The Redis server that `serve` starts without REDIS_URL: fakeredis on a Unix socket, in a process of its own.

    python -m common.store.embedded_redis /folder/redis.sock --beats

The process prints the line `ready` when it accepts connections. With `--beats` it also prints `beat` each second
in which it answers a PING (see heartbeat.py). It ends at SIGTERM, SIGINT or SIGQUIT, and stores nothing on disk.
There is no password, because the permissions of the socket's folder decide who may connect.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fakeredis import TcpFakeServer
from fakeredis._clients._tcp_server import TCPFakeRequestHandler, encode_reply
from redis.exceptions import ResponseError

from common.observe import log_writer
from common.runtime.heartbeat import HEARTBEAT_SECONDS, Heartbeat

_READ_BYTES = 65536

_PING = b"*1\r\n$4\r\nPING\r\n"
_PONG = b"+PONG\r\n"
_PING_SECONDS = 5.0


class _Connection(TCPFakeRequestHandler):
    """A client, served by a thread that sleeps until there is data to read.

    fakeredis' own handler looks for pushed messages every 10 ms, which this service does not use. It also hangs up
    after an error reply, so that a client could not even load a missing script.
    """

    def setup(self) -> None:
        """Block in reads and writes; the parent class makes the socket non-blocking."""
        super().setup()
        self.connection.setblocking(True)

    def handle(self) -> None:
        """Answer commands until the client hangs up."""
        while received := self.connection.recv(_READ_BYTES):
            self.current_client.get_socket().sendall(received)
            replies = []
            while self.current_client.can_read():
                replies.append(encode_reply(self._reply(), self.protocol_version))
            if replies:
                self.connection.sendall(b"".join(replies))

    def _reply(self) -> object:
        try:
            return self.current_client.read_response()
        except ResponseError as error:
            return error


class EmbeddedRedis(TcpFakeServer):
    """A Redis server on a Unix socket; a socket file that a killed server left is replaced.

    Raises:
        OSError: the socket cannot be created.
    """

    address_family = socket.AF_UNIX
    request_queue_size = 128  # All processes of the service may connect at once.

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        super().__init__(str(path))  # type: ignore[arg-type]  # fakeredis expects TCP
        self.RequestHandlerClass = _Connection
        self.daemon_threads = True

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        """Accept a client, and give it a unique address, by which fakeredis tells its clients apart."""
        connection, _ = super().get_request()
        return connection, ("unix", next(self.client_ids))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that hang up: the supervisor reports a killed process."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def _beat(path: Path) -> None:
    """Write the server's heartbeat to stdout as long as the server answers a new client."""
    heartbeat = Heartbeat(sys.stdout.fileno())
    say = heartbeat.ready
    while True:
        if _answers(path):
            say()
            say = heartbeat.beat
        time.sleep(HEARTBEAT_SECONDS)


def _answers(path: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(_PING_SECONDS)
            client.connect(str(path))
            client.sendall(_PING)
            return client.recv(len(_PONG)) == _PONG
    except OSError:
        return False


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m common.store.embedded_redis", description=__doc__)
    parser.add_argument("socket", type=Path, help="where to listen")
    parser.add_argument("--beats", action="store_true", help="print a line each second")
    options = parser.parse_args(arguments)
    # Blocked before threads start, which inherit the mask: the signals then wait for `sigwait`.
    stop_signals = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}
    for ignored in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(ignored, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals)
    log_writer.install()  # a thread that waits for stderr's reader would delay its client
    try:
        server = EmbeddedRedis(options.socket)
    except OSError as error:
        sys.exit(f"Embedded Redis cannot listen on {options.socket}: {error.strerror or error}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    if options.beats:
        threading.Thread(target=_beat, args=(options.socket,), daemon=True).start()
    else:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
    signal.sigwait(stop_signals)
    log_writer.end()
    # The client threads hold nothing that needs an orderly end.
    os._exit(0)


if __name__ == "__main__":
    main()

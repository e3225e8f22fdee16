"""The Redis that `serve` starts when there is no REDIS_URL: fakeredis on a Unix socket, in a process of its own.

    python -m common.store.embedded_redis /folder/redis.sock --beats

prints the line `ready` when it accepts connections, and `beat` each second in which it answers a PING (`--beats`,
see heartbeat.py). It ends at SIGTERM, SIGINT or SIGQUIT, and keeps nothing. There is no
password, because the folder of the socket decides who may connect.
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
from common.runtime.heartbeat import BEAT_SECONDS, Heartbeat

_READ_BYTES = 65536

_PING = b"*1\r\n$4\r\nPING\r\n"
_PONG = b"+PONG\r\n"
_PING_SECONDS = 5.0


class _Connection(TCPFakeRequestHandler):
    """One client, served by a thread that sleeps until there is something to read.

    fakeredis' own handler looks for pushed messages every 10 ms, which nobody here subscribes to, and hangs up
    after an error reply, so that a client could not even load a script that the server does not have yet.
    """

    def setup(self) -> None:
        """Wait in reads and writes: the parent class makes the socket non-blocking."""
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
    """A Redis server on a Unix socket. A socket that a killed server left there is replaced.

    Raises:
        OSError: the socket cannot be made.
    """

    address_family = socket.AF_UNIX
    request_queue_size = 128  # Every process of the service may connect at once.

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        super().__init__(str(path))  # type: ignore[arg-type]  # fakeredis expects TCP
        self.RequestHandlerClass = _Connection
        self.daemon_threads = True

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        """Accept a client, and give it an address: fakeredis tells its clients apart by theirs."""
        connection, _ = super().get_request()
        return connection, ("unix", next(self.client_ids))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that vanish: a killed process is reported by who supervises it."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def _beat(path: Path) -> None:
    """Say on stdout that the server lives, for as long as it answers a new client."""
    heartbeat = Heartbeat(sys.stdout.fileno())
    say = heartbeat.ready
    while True:
        if _answers(path):
            say()
            say = heartbeat.beat
        time.sleep(BEAT_SECONDS)


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
    # Blocked before there are threads, which inherit it: the signal then waits for `sigwait`.
    stop_signals = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}
    for ignored in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(ignored, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals)
    log_writer.install()  # a thread that waits for stderr's reader would hold up its client
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
    # Threads that serve clients hold nothing that needs an orderly end.
    os._exit(0)


if __name__ == "__main__":
    main()

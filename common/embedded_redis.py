"""The Redis that `serve` starts when there is no REDIS_URL: fakeredis on 127.0.0.1, in a process of its own.

    python -m common.embedded_redis --port 0

prints one line, `{"port": 40123}`, when it accepts connections, and ends at SIGTERM, SIGINT or SIGQUIT. It keeps
nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any

from fakeredis import TcpFakeServer
from fakeredis._clients._tcp_server import TCPFakeRequestHandler, encode_reply
from redis.exceptions import ResponseError

from common import log_writer

_READ_BYTES = 65536


class _Connection(TCPFakeRequestHandler):
    """One client, served by a thread that sleeps until there is something to read.

    fakeredis' own handler looks for pushed messages every 10 ms, which nobody here subscribes to, and hangs up
    after an error reply, so that a client could not even load a script that the server does not have yet.
    """

    disable_nagle_algorithm = True

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
    """A Redis server on 127.0.0.1.

    Args:
        port: 0 for a free one.

    Raises:
        OSError: the port is taken.
    """

    request_queue_size = 128  # Every process of the service may connect at once.

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port))
        self.RequestHandlerClass = _Connection
        self.daemon_threads = True

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that vanish: a killed process is reported by who supervises it."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m common.embedded_redis", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 (default): a free one")
    options = parser.parse_args(arguments)
    # Blocked before there are threads, which inherit it: the signal then waits for `sigwait`.
    stop_signals = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}
    for ignored in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(ignored, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals)
    log_writer.install()  # a thread that waits for stderr's reader would hold up its client
    try:
        server = EmbeddedRedis(options.port)
    except OSError as error:
        sys.exit(f"Embedded Redis cannot listen on 127.0.0.1:{options.port}: {error.strerror}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(json.dumps({"port": server.port}) + "\n")
    sys.stdout.flush()
    signal.sigwait(stop_signals)
    log_writer.end()
    # Threads that serve clients hold nothing that needs an orderly end.
    os._exit(0)


if __name__ == "__main__":
    main()

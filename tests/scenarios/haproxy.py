"""Run Debian's haproxy in front of dispatchers, with the configuration file for operators."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from common.net.ports import port_of, reserve_port
from tests.helpers import eventually, needed_program
from tests.scenarios.processes import PATIENCE_SECONDS

CONFIGURATION = Path(__file__).resolve().parents[2] / "docs" / "haproxy.cfg"

_BIND = re.compile(r"^    bind :6030$", re.MULTILINE)
_SERVERS = re.compile(r"(?:^    server \S+ 192\.0\.2\.\d+:6030\n)+", re.MULTILINE)


def configuration(port: int, servers: Sequence[tuple[int, int]]) -> str:
    """Return the operators' file with the addresses of a test.

    Args:
        port: the port for AVR Core.
        servers: PORT and ADMIN_PORT of each dispatcher.
    """
    lines = [
        f"    server dispatcher-{number} 127.0.0.1:{server} port {admin}\n"
        for number, (server, admin) in enumerate(servers, 1)
    ]
    text, binds = _BIND.subn(f"    bind 127.0.0.1:{port}", CONFIGURATION.read_text("utf-8"))
    text, blocks = _SERVERS.subn("".join(lines), text)
    assert (binds, blocks) == (1, 1), "the file has another form than this test expects"
    return text


class HaProxy:
    """A running haproxy, as a context manager that keeps the log.

    Attributes:
        log: the complete output of haproxy.
        url: the address for AVR Core.
    """

    def __init__(self, servers: Sequence[tuple[int, int]]) -> None:
        self.log = ""
        self._servers = servers
        self._program = needed_program("haproxy")
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        directory = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="haproxy-"))
        self._file = Path(directory) / "haproxy.cfg"
        reserved = self._stack.enter_context(reserve_port("127.0.0.1", 0, variable="bind"))
        self._port = port_of(reserved)
        self.url = f"ws://127.0.0.1:{self._port}/"
        self._file.write_text(configuration(self._port, self._servers), "utf-8")
        self._process = await asyncio.create_subprocess_exec(
            *(self._program, "-W", "-f", str(self._file)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        self._reading = asyncio.create_task(self._read())
        self._stack.push_async_callback(self._kill)
        await self.logged("Loading success", 1)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def logged(self, text: str, times: int = 1) -> None:
        """Wait until the log contains a text this many times."""
        await eventually(lambda: self.log.count(text) >= times, PATIENCE_SECONDS)

    async def reload(self, servers: Sequence[tuple[int, int]]) -> None:
        """Use other servers from now on; running calls stay at their dispatchers."""
        loads = self.log.count("Loading success")
        self._file.write_text(configuration(self._port, servers), "utf-8")
        self._process.send_signal(signal.SIGUSR2)
        await self.logged("Loading success", loads + 1)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.log += line.decode(errors="replace")

    async def _kill(self) -> None:
        # Also the processes of earlier configurations.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        await self._reading

"""Dispatchers and workers forked from a process that has imported their modules.

A short-lived dispatcher or worker spends almost all of its CPU time on imports: half a second. A run of the tests
starts hundreds of these processes. A forked process runs the same command, `common.runtime.cli.main`, with its own
environment, session, files and working directory. `serve` and its children start a new Python.

    python -P -m tests.scenarios.forked    # the process that forks; its stdin is a socket for requests
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import gc
import os
import signal
import socket
import subprocess
import sys
import tempfile
from importlib import import_module
from typing import Final

import orjson

POSSIBLE: Final = sys.platform == "linux"
"""Whether processes can be forked: frameworks of macOS do not survive a fork."""

_PRELOADED: Final = (
    "common.observe.log_writer",
    "common.runtime.process",
    "common.settings.settings",
    "dispatcher.main",
    "worker.main",
)
_REQUEST_BYTES: Final = 128 * 1024


class ForkedProcess:
    """A forked process, with the part of `asyncio.subprocess.Process` that the tests use."""

    def __init__(self, pid: int, stderr: asyncio.StreamReader, end: asyncio.Task[int]) -> None:
        self.pid = pid
        self.stderr = stderr
        self.returncode: int | None = None
        self._end = end
        end.add_done_callback(self._ended)

    async def wait(self) -> int:
        """Wait for the end and return the exit code."""
        return await asyncio.shield(self._end)

    def send_signal(self, number: int) -> None:
        """Send a signal to the process."""
        if self.returncode is not None:
            raise ProcessLookupError
        os.kill(self.pid, number)

    def _ended(self, end: asyncio.Task[int]) -> None:
        if not end.cancelled():
            self.returncode = end.result()


async def fork(arguments: tuple[str, ...], environment: dict[str, str], pythonpath: str) -> ForkedProcess:
    """Start a sub-command with this environment."""
    control, their_control = socket.socketpair()
    read, write = os.pipe()
    request = orjson.dumps({"arguments": arguments, "environment": environment})
    assert len(request) < _REQUEST_BYTES
    socket.send_fds(_forking(pythonpath), [request], [their_control.fileno(), write])
    their_control.close()
    os.close(write)
    stderr = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stderr), os.fdopen(read, "rb", buffering=0)
    )
    answers, writer = await asyncio.open_connection(sock=control)
    pid = int(await answers.readline())

    async def end() -> int:
        try:
            return int(await answers.readline())
        finally:
            writer.close()

    return ForkedProcess(pid, stderr, asyncio.create_task(end()))


@functools.cache
def _forking(pythonpath: str) -> socket.socket:
    """Start the process that forks, once for each process of the tests, and return the socket for requests."""
    requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    threads = {name: value for name, value in os.environ.items() if name.endswith("_NUM_THREADS")}
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "tests.scenarios.forked"],
        env=environment | threads | {"PYTHONPATH": pythonpath},
        cwd=tempfile.gettempdir(),
        stdin=theirs.fileno(),
    )
    theirs.close()

    def end() -> None:
        requests.close()
        process.wait()

    atexit.register(end)
    return requests


def _serve_requests() -> None:
    """Fork one process for each request, until the tests close the socket."""
    for module in _PRELOADED:
        import_module(module)
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel removes keepers that have ended
    requests = socket.socket(fileno=os.dup(0))
    while True:
        request, files, _, _ = socket.recv_fds(requests, _REQUEST_BYTES, 2)
        if not request:
            return
        if os.fork() == 0:
            requests.close()
            _keep(request, *files)
        for file in files:
            os.close(file)


def _keep(request: bytes, control: int, stderr: int) -> None:
    """Fork the process, and report its id and its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    pid = os.fork()
    if pid == 0:
        os.close(control)
        _become(request, stderr)
    for file in (0, stderr):
        os.close(file)
    os.write(control, b"%d\n" % pid)
    _, status = os.waitpid(pid, 0)
    os.write(control, b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _become(request: bytes, stderr: int) -> None:
    """Run the sub-command as a process of its own."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for file, number in ((nothing, 0), (nothing, 1), (stderr, 2)):
        os.dup2(file, number)
    for file in {nothing, stderr} - {0, 1, 2}:
        os.close(file)
    wanted = orjson.loads(request)
    os.environ.clear()
    os.environ.update(wanted["environment"])
    sys.argv[1:] = wanted["arguments"]
    sys.exit(import_module("common.runtime.cli").main())


if __name__ == "__main__":
    _serve_requests()

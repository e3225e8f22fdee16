from __future__ import annotations

import socket
import subprocess
import sys
from typing import IO

import pytest

from tests.chaos import pipes
from tests.scenarios.processes import STUFFING

# Prints a line at its start, writes a log line when it is told to, and prints another line.
_WRITER = """
import sys
print("here", flush=True)
sys.stdin.readline()
sys.stderr.write("a line\\n")
sys.stderr.flush()
print("written", flush=True)
"""


@pytest.mark.parametrize("is_pipe", [True, False], ids=["pipe", "socket"])
def test_stuffed_stderr_blocks_its_writer_until_it_is_read(is_pipe: bool) -> None:
    ours, theirs = socket.socketpair()
    with (
        ours,
        theirs,
        subprocess.Popen(
            [sys.executable, "-c", _WRITER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if is_pipe else theirs.fileno(),
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            assert process.stdout.readline() == b"here\n"
            assert pipes.stuff(process.pid) > 0
            assert pipes.stuff(process.pid) == 0, "there is no room for two bytes more"
            process.stdin.write(b"\n")
            process.stdin.flush()
            reader: IO[bytes] = process.stderr if process.stderr is not None else ours.makefile("rb")
            with reader:
                lines = iter(reader.readline, b"")
                own = next(line for line in lines if not line.startswith(STUFFING))
            assert own == b"a line\n"
            assert process.stdout.readline() == b"written\n"
        finally:
            process.kill()


def test_ended_process_cannot_be_stuffed() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        assert pipes.stuff(process.pid) == 0

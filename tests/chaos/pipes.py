"""The reader's side of a process's stderr, which can be filled to the last byte.

uvloop gives its children sockets instead of pipes. Both are filled without blocking, and the process's own writes
block as before.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from typing import Final

from tests.chaos import sockets
from tests.scenarios.processes import STUFFING

# Writes of up to 4096 bytes to a pipe are whole or not at all (pipe(7)).
_LINE_BYTES: Final = (4096, 256, 16, 2)
_STDERR: Final = 2


def stuff(pid: int) -> int:
    """Write to a process's stderr until it is full, and return the number of bytes written.

    Raises:
        OSError: the process has ended.
    """
    copy = sockets.copy_of(pid, _STDERR)
    if copy is None:
        return 0
    if stat.S_ISSOCK(os.fstat(copy).st_mode):
        with socket.socket(fileno=copy) as connection:
            return _stuff(lambda line: connection.send(line, socket.MSG_DONTWAIT))
    os.close(copy)
    # Another open file of the same pipe: this one does not block, and the process's own is unchanged.
    pipe = os.open(f"/proc/{pid}/fd/{_STDERR}", os.O_WRONLY | os.O_NONBLOCK)
    try:
        return _stuff(lambda line: os.write(pipe, line))
    finally:
        os.close(pipe)


def _stuff(write: Callable[[bytes], int]) -> int:
    written = 0
    for size in _LINE_BYTES:
        line = STUFFING * (size - 1) + b"\n"
        try:
            while True:
                written += write(line)
        except BlockingIOError:
            continue
    return written

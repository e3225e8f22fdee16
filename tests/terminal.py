"""A program on a terminal of its own, as a person starts it: its output, and keys such as Ctrl-C."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

CTRL_C: Final = b"\x03"

_PATIENCE_SECONDS: Final = 60.0
_ROWS, _COLUMNS = 50, 200


class Terminal:
    """A running program whose stdin, stdout and stderr are one terminal.

    Attributes:
        shown: all bytes that the terminal has received so far, as text.
    """

    def __init__(self, arguments: Sequence[str | Path], environment: Mapping[str, str], cwd: Path) -> None:
        self.shown = ""
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
        self._process = subprocess.Popen(
            arguments,
            env=dict(environment),
            cwd=cwd,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            # The terminal becomes that of the new session, so that it turns Ctrl-C into SIGINT.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - it takes no lock
        )
        os.close(slave)

    def read_until(self, text: str, *, after: int = 0) -> str:
        """Return what is shown, once `text` is shown behind the first `after` characters."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while text not in self.shown[after:]:
            assert self._read(deadline), f"the terminal never showed {text!r}:\n{self.shown}"
        return self.shown

    def press(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._master, keys)

    def end(self) -> int:
        """Wait for the end, and return the exit code."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while self._read(deadline):
            pass
        return self._process.wait(_PATIENCE_SECONDS)

    def _read(self, deadline: float) -> bool:
        """Read more; return False at the end of the program, or of the time."""
        if not select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # EIO: no process has the terminal any more
            return False
        self.shown += data.decode(errors="replace")
        return bool(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)

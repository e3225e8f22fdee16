"""Gates at which tools in other processes wait for their tests: a tool marks the gate as reached, and waits."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Final

from tests.helpers import eventually

FOLDER: Final = "AVR_TEST_GATES"
"""The environment variable that names the folder of the gates."""

_GUARD_SECONDS = 60
_MOST_WAITING = 100
_opened: list[int] = []


class Gate:
    """A gate at which a thread waits."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()

    def wait(self) -> None:
        """Block until the test opens the gate."""
        self.reached.set()
        assert self.open.wait(_GUARD_SECONDS)

    async def is_reached(self) -> None:
        """Wait until the thread reaches the gate, without blocking the test's event loop."""
        await eventually(self.reached.is_set, _GUARD_SECONDS)


class ProcessGate:
    """A gate at which a tool in another process waits: a file that the tool makes, and a pipe without a writer."""

    def __init__(self, name: str) -> None:
        folder = Path(os.environ[FOLDER])
        self._reached = folder / f"{name}.reached"
        self._pipe = folder / f"{name}.pipe"

    def reach(self) -> None:
        """Mark the gate as reached. Called by the tool."""
        self._reached.touch()

    def wait(self) -> None:
        """Block until the test opens the gate, or ends."""
        self.reach()
        with self._pipe.open("rb", buffering=0) as pipe:
            pipe.read(1)

    async def is_reached(self) -> None:
        """Wait until the tool reaches the gate, without blocking the test's event loop."""
        await eventually(self._reached.exists, _GUARD_SECONDS)

    @property
    def was_reached(self) -> bool:
        """Return whether the tool has reached the gate."""
        return self._reached.exists()

    def open(self) -> None:
        """Open the gate for all tools that wait, now or later."""
        pipe = os.open(self._pipe, os.O_RDWR | os.O_NONBLOCK)
        os.write(pipe, bytes(_MOST_WAITING))
        _opened.append(pipe)


def close_all() -> None:
    """Forget the gates of a test."""
    while _opened:
        os.close(_opened.pop())


def gate(name: str) -> ProcessGate:
    """Return the gate of this name. A test makes gates with `new_gate`."""
    return ProcessGate(name)


def new_gate(name: str) -> ProcessGate:
    """Make a gate for a test."""
    os.mkfifo(Path(os.environ[FOLDER]) / f"{name}.pipe")
    return ProcessGate(name)

"""Events that tools in files and the tests of them have in common: a tool says `reached`, and waits for `open`."""

from __future__ import annotations

import threading
from collections import defaultdict

from tests.helpers import eventually

_GUARD_SECONDS = 60


class Gate:
    """A place at which a thread waits."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()

    def wait(self) -> None:
        """What a tool does: it blocks until the test opens."""
        self.reached.set()
        assert self.open.wait(_GUARD_SECONDS)

    async def is_reached(self) -> None:
        """What a test does, without blocking its event loop."""
        await eventually(self.reached.is_set, _GUARD_SECONDS)


_gates: defaultdict[str, Gate] = defaultdict(Gate)


def gate(name: str) -> Gate:
    """The gate of this name; a test names its own."""
    return _gates[name]


def open_all() -> None:
    """Lets every thread go that still waits."""
    for each in _gates.values():
        each.open.set()
    _gates.clear()

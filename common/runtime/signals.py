"""Signals that would end a process by default, and the check whether its terminal was closed.

This module imports little, because `hold` must run before all slow imports.
"""

from __future__ import annotations

import os
import signal
from typing import Final

IGNORED: Final = (signal.SIGUSR1, signal.SIGUSR2)
"""Signals that are sent by mistake or out of habit; they must not cost a call."""

_HELD: Final = (signal.SIGHUP, signal.SIGQUIT, *IGNORED)


def hold() -> None:
    """Keep signals pending until `release`, because there is no handler yet."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)


def release() -> None:
    """Deliver signals, including those that have come since `hold`."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)


class Terminal:
    """The terminal from which this process was started.

    SIGHUP means either that the terminal was closed, or that an operator wants the secrets reloaded.
    """

    def __init__(self) -> None:
        # With nohup the process must outlive its terminal.
        is_kept = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._was_there = not is_kept and _is_there()

    @property
    def was_closed(self) -> bool:
        """Whether the terminal existed at the start, and is gone now."""
        return self._was_there and not _is_there()


def _is_there() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True

"""Signals that would end a process by default, and what tells that its terminal was closed.

This module imports little, because `hold` comes before all that takes time.
"""

from __future__ import annotations

import os
import signal
from typing import Final

IGNORED: Final = (signal.SIGUSR1, signal.SIGUSR2)
"""Sent to one service in place of another, or out of habit; they must not cost a call."""

_HELD: Final = (signal.SIGHUP, signal.SIGQUIT, *IGNORED)


def hold() -> None:
    """Keeps signals pending until `release`: there is nobody yet who handles them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)


def release() -> None:
    """Lets signals in, and those that came since `hold`."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)


class Terminal:
    """The terminal that this process was started from.

    SIGHUP says either that the terminal was closed, or that somebody asks for the settings to be read again.
    """

    def __init__(self) -> None:
        # With nohup the process is to outlive its terminal.
        is_kept = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._was_there = not is_kept and _is_there()

    @property
    def was_closed(self) -> bool:
        """Whether there was one, and is none now."""
        return self._was_there and not _is_there()


def _is_there() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True

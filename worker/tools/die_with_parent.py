"""Becomes another program, which the kernel kills when its parent dies, and to which it prefers its parent.

    python -I -S die_with_parent.py PARENT_PID PROGRAM ARGUMENT...

A process of its own between fork and exec, where `preexec_fn` would do it with less: that is not safe in a parent
that has threads, as a worker with tools has.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1  # prctl(2)
# A third of the parent's share of a CPU, where both want it: a tool that computes is not to delay audio.
NICENESS = 5


def main(arguments: Sequence[str]) -> None:
    """Does not return."""
    os.nice(NICENESS)
    parent_pid, *command = arguments
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent_pid):  # it died before the kernel knew
        sys.exit(1)
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell is wanted
    except OSError as error:
        sys.exit(f"{command[0]} cannot be started: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])

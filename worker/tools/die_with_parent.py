"""Start another program that the kernel kills when its parent dies, at a lower CPU priority than the parent.

    python -I -S die_with_parent.py PARENT_PID PROGRAM ARGUMENT...

This script runs between fork and exec. `preexec_fn` would need no extra process. But a worker with tools has
threads, and `preexec_fn` is not safe with threads (Python's documentation of `subprocess`).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1  # prctl(2)
# Under contention the program gets a third of the parent's CPU share, so that a busy tool does not delay audio.
NICENESS = 5


def main(arguments: Sequence[str]) -> None:
    """Replace this process by the program. Does not return."""
    os.nice(NICENESS)
    parent_pid, *command = arguments
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent_pid):  # the parent died before the call of prctl
        sys.exit(1)
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell is wanted
    except OSError as error:
        sys.exit(f"{command[0]} cannot be started: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])

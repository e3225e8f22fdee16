"""The exit of a process that waits for no thread.

A name server that does not answer blocks a thread of the resolver for a minute. Python waits for such threads
three times: when asyncio closes its default executor, when uvloop closes its loop, and when the interpreter ends.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from typing import Final, NoReturn

EXIT_BY_SIGNAL: Final = 128
"""Added to the number of the signal that ended a process, this makes its exit code in shells."""

INTERRUPTED: Final = EXIT_BY_SIGNAL + 2
"""Exit code of a process that Ctrl-C (SIGINT) ended."""


def exit_now(code: int) -> NoReturn:
    """End this process with `code`, after the functions registered with `atexit` and pending output."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # the reader is gone
            stream.flush()
    os._exit(code)

"""What the system has counted of this process's use of its core, for `GROUPING_MS=auto`."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Final

from common.net.adaptive_interval import Reading
from common.settings.cores import cpu_limit

NANOSECONDS: Final = 1e9
MICROSECONDS: Final = 1e6


class CoreLoad:
    """The counters of this process, of its event loop's thread, and of its container.

    A counter that the system does not have stays 0, and does not change the load.

    Attributes:
        limit_cores: CPU limit of the container, in cores; None: there is no limit.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        """Find the counters.

        Args:
            root: where /proc and /sys are.
        """
        limit = cpu_limit(root)
        self.limit_cores = None if limit is None else limit.cores
        self._group = None if limit is None else limit.folder
        # `self` has the figures of the main thread alone, in which the event loop runs.
        self._schedule = root / "proc/self/schedstat"
        self._waited_seconds = 0.0
        self._group_seconds = 0.0

    def read(self) -> Reading:
        """Read all counters; it takes some 50 microseconds."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            # Linux, Documentation/scheduler/sched-stats.rst: time on a core, time waiting for one, time slices.
            self._waited_seconds = int(self._schedule.read_bytes().split()[1]) / NANOSECONDS
        if self._group is not None:
            with contextlib.suppress(OSError, ValueError, LookupError):
                self._group_seconds = _group_seconds(self._group)
        return Reading(time.process_time(), self._waited_seconds, self._group_seconds)


def _group_seconds(group: Path) -> float:
    """Return the CPU time of a control group; the second version has it in `cpu.stat`, the first beside it."""
    try:
        return int((group / "cpuacct.usage").read_bytes()) / NANOSECONDS
    except OSError:
        lines = (group / "cpu.stat").read_bytes().splitlines()
        return int(dict(line.split() for line in lines)[b"usage_usec"]) / MICROSECONDS

"""The number of cores that this process may use: its affinity, within the CPU quota of its container.

A container with a quota (`docker run --cpus 2`, a CPU limit in Kubernetes) sees all cores of its host. One busy
process for each core would use up the quota early in every period. It would then stall for the rest of the period.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

_CONTROLLER: Final = "cpu"
_V1_MOUNTS: Final = ("cpu,cpuacct", "cpu")
"""The mount points of the first version's controller under /sys/fs/cgroup."""


class CpuLimit(NamedTuple):
    """The CPU limit of a control group.

    Attributes:
        cores: number of cores' worth of time that the group is granted.
        folder: of the group, with its other figures.
    """

    cores: float
    folder: Path


def usable_cores(root: Path = Path("/")) -> int:
    """Return the number of cores that this process may keep busy, at least 1; a part of a core counts as one.

    Args:
        root: where /proc and /sys are.
    """
    quota = cpu_quota(root)
    allowed = _allowed_cores()
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return the number of cores' worth of time that control groups grant; None: there is no limit.

    Args:
        root: where /proc and /sys are.
    """
    limit = cpu_limit(root)
    return None if limit is None else limit.cores


def cpu_limit(root: Path = Path("/")) -> CpuLimit | None:
    """Return the CPU limit of this process: the smallest one of its control group and the parents; None: no limit.

    Both versions of control groups are read.

    Args:
        root: where /proc and /sys are.
    """
    return min(_limits(root), default=None)


def _allowed_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _limits(root: Path) -> Iterator[CpuLimit]:
    # Lines of cgroups(7): ID:controllers:path of the group; version 2 has the ID 0 and names no controller.
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if number == "0" and not controllers:
            for folder in _from_group_to_top(root / "sys/fs/cgroup", group):
                yield from _limit(folder, *_text(folder / "cpu.max").split())
        elif _CONTROLLER in controllers.split(","):
            for mount in _V1_MOUNTS:
                for folder in _from_group_to_top(root / "sys/fs/cgroup" / mount, group):
                    texts = (_text(folder / name) for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
                    yield from _limit(folder, *texts)


def _from_group_to_top(mount: Path, group: str) -> Iterator[Path]:
    # In a container the path may be the host's, of which only the top is mounted: missing folders are skipped.
    path = PurePosixPath(group.lstrip("/"))
    if ".." not in path.parts:  # a group outside of this cgroup namespace
        for below_top in (path, *path.parents):
            if below_top.parts:
                yield mount / below_top
    yield mount


def _limit(folder: Path, quota_us: str = "", period_us: str = "") -> Iterator[CpuLimit]:
    """Yield the limit that two numbers give; none for `max` and -1, and for missing files."""
    try:
        quota, period = int(quota_us), int(period_us)
    except ValueError:
        return
    if quota > 0 and period > 0:
        yield CpuLimit(quota / period, folder)


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""

"""Files of a folder that other users may change."""

from __future__ import annotations

import itertools
import os
import stat
from pathlib import Path
from typing import Final

MAX_ENTRIES: Final = 1000
"""So many entries of a folder are looked at."""


def writable_paths(folder: Path) -> list[str]:
    """Return what all users, or a group, may change of a folder and its direct entries: path, mode and who.

    Hidden entries are skipped. So is a file system that is mounted read-only: Kubernetes gives all rights to the
    folder of a ConfigMap, for example.
    """
    try:
        if os.statvfs(folder).f_flag & os.ST_RDONLY:
            return []
        with os.scandir(folder) as entries:
            names = [entry.name for entry in itertools.islice(entries, MAX_ENTRIES)]
    except OSError:  # there is no such folder, or it cannot be read, and no tool is loaded
        return []
    paths = [folder, *(folder / name for name in sorted(names) if not name.startswith("."))]
    return [shown for path in paths if (shown := _shown(path))]


def _shown(path: Path) -> str:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:  # a link that leads nowhere
        return ""
    if mode & stat.S_IWOTH:
        return f"{path} (mode {mode:04o}, all)"
    return f"{path} (mode {mode:04o}, its group)" if mode & stat.S_IWGRP else ""

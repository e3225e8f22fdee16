"""Files of a folder that other users may change."""

from __future__ import annotations

import itertools
import os
import stat
from pathlib import Path
from typing import Final

MAX_ENTRIES: Final = 1000
"""Maximum number of entries of a folder that are examined."""


def writable_paths(folder: Path) -> list[str]:
    """Return the folder and its direct entries that all users, or a group, may change: path, mode and users.

    Hidden entries are skipped. A file system that is mounted read-only is skipped, too: Kubernetes, for example,
    grants all rights to the folder of a ConfigMap.
    """
    try:
        if os.statvfs(folder).f_flag & os.ST_RDONLY:
            return []
        with os.scandir(folder) as entries:
            names = [entry.name for entry in itertools.islice(entries, MAX_ENTRIES)]
    except OSError:  # the folder is missing or unreadable, so no tool is loaded from it
        return []
    paths = [folder, *(folder / name for name in sorted(names) if not name.startswith("."))]
    return [shown for path in paths if (shown := _shown(path))]


def _shown(path: Path) -> str:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:  # a link without a target
        return ""
    if mode & stat.S_IWOTH:
        return f"{path} (mode {mode:04o}, all)"
    return f"{path} (mode {mode:04o}, its group)" if mode & stat.S_IWGRP else ""

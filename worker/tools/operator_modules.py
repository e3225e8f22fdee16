"""Modules of operators, in the process that runs their tools. For that process alone.

A tool may import helpers that lie beside it, and they may have the name of one of this service's packages: a
`common.py` is not unusual. Both cannot be in `sys.modules` under one name. This process has imported all of the
service that it needs before the first tool is loaded, so the name is the operator's from then on.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Final

PACKAGES: Final = frozenset({"common", "dispatcher", "simulator", "worker"})
"""Packages of this service."""

_OURS: Final[list[ModuleType]] = []
"""What was taken out of `sys.modules`, so that it lives as long as the process."""


class _FoldersFirst(MetaPathFinder):
    """Looks in the folders of tools first for a module that is named as a package of this service."""

    def __init__(self, folders: Sequence[str]) -> None:
        self._folders = folders

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where it is, or None, which leaves it to the other finders."""
        return PathFinder.find_spec(fullname, self._folders, target) if fullname in PACKAGES else None


def make_room(folders: Sequence[str]) -> None:
    """Let tools import modules of these folders; modules of libraries go first, except for `PACKAGES`.

    No module of this service that is loaded may import another one later, within a function.
    """
    sys.path += [folder for folder in folders if folder not in sys.path]
    sys.meta_path.insert(0, _FoldersFirst(folders))
    for name in [each for each in sys.modules if each.partition(".")[0] in PACKAGES]:
        _OURS.append(sys.modules.pop(name))

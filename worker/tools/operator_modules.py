"""Let tools import operators' modules with names of this service's packages. Used only in the process for tools.

A tool may import helper files beside itself. Such a file may have the name of one of this service's packages, such
as `common.py`. `sys.modules` cannot hold both under one name. The process for tools imports all needed modules of
the service before the first tool. So from then on these names can belong to the operator's modules.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Final

PACKAGES: Final = frozenset({"common", "dispatcher", "simulator", "worker"})
"""The packages of this service."""

_OURS: Final[list[ModuleType]] = []
"""The service's modules, which were removed from `sys.modules` and must live as long as the process."""


class _FoldersFirst(MetaPathFinder):
    """A finder that first looks in the folders of tools for modules with the name of a package of this service."""

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

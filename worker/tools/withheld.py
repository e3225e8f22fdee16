"""Notices when a tool reads a variable that is withheld from it. For the process that runs tools alone."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from worker.tools.child_log import Log

if TYPE_CHECKING:
    _Environ = os._Environ[str]
else:
    _Environ = os._Environ


def watch(names: Iterable[str], log: Log) -> None:
    """Log the first read of each of these variables in `os.environ`, as long as a tool has not set it itself."""
    unread = set(names)

    class Watched(_Environ):
        def __getitem__(self, key: str) -> str:
            try:
                return super().__getitem__(key)
            except KeyError:
                if key in unread:
                    unread.discard(key)
                    hint = f"TOOLS_ENV={key} lets tools see it"
                    log.warning("a tool read a variable that is withheld from tools", variable=key, hint=hint)
                raise

    # In place: modules have imported the object.
    os.environ.__class__ = Watched

"""Log when a tool reads a withheld variable. Used only in the process that runs tools."""

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
    """Log the first read of each of these variables in `os.environ`, unless a tool has set the variable."""
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

    # The object stays the same and only its class changes, because modules have already imported the object.
    os.environ.__class__ = Watched

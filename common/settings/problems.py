"""Wrong settings as lines for an operator: short, and without secrets."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

from common.observe.redaction import redact

SHOWN_CHARACTERS: Final = 80


def shown(value: object) -> str:
    """Return a value as a line may show it: truncated, and without possible secrets."""
    # The text before an @ may be a password, even if the rest is misspelt.
    text = str(value)
    made = redact(f"***@{text.rpartition('@')[2]}" if "@" in text else text)
    return made if len(made) <= SHOWN_CHARACTERS else made[:SHOWN_CHARACTERS] + "..."


def of_file(name: str, path: Path | None) -> str | None:
    """Return the problem of a setting's file; None: the file can be read, or none is set."""
    if path is None:
        return None
    try:
        # The file is not opened, because a pipe can be read only once.
        is_folder = stat.S_ISDIR(path.stat().st_mode)
        code = errno.EISDIR if is_folder else 0 if os.access(path, os.R_OK) else errno.EACCES
    except OSError as error:
        code = error.errno or errno.EIO
    return f"{name.upper()}={shown(path)!r} cannot be read: {os.strerror(code)}" if code else None

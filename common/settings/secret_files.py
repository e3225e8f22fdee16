"""Secrets in files: `NAME_FILE` names the file that holds the value of `NAME`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from common.observe.redaction import redact

MAX_BYTES: Final = 1 << 16
"""Maximum length of a secret: a longer file is not the file of a secret."""

SUFFIX: Final = "_file"


@dataclass(frozen=True, slots=True)
class WithFiles:
    """Values of settings, including values from files.

    Attributes:
        values: by the name of the setting.
        by_file: names of settings whose value comes from a file.
        problems: a line for each file that cannot be used.
    """

    values: dict[str, str]
    by_file: frozenset[str]
    problems: tuple[str, ...]


def read(values: Mapping[str, str], secrets: Collection[str]) -> WithFiles:
    """Read the files that `values` names.

    Args:
        values: the set values, with names in lower case.
        secrets: names of the settings that may be in files.
    """
    read_values = dict(values)
    problems = []
    by_file = [name for name in secrets if name + SUFFIX in values]
    for name in by_file:
        path = values[name + SUFFIX]
        if name in values:
            problems.append(f"{name.upper()} and {name.upper()}_FILE are both set: set one of them")
            continue
        try:
            read_values[name] = _secret(Path(path))
        except ValueError as error:
            # An operator may have set the secret itself by mistake.
            problems.append(f"{name.upper()}_FILE={redact(path)!r} {error}")
    return WithFiles(read_values, frozenset(by_file), tuple(problems))


def _secret(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise ValueError(f"is longer than a secret can be, {MAX_BYTES} bytes")
    try:
        secret = content.decode().strip()
    except UnicodeDecodeError:
        raise ValueError("is not text in UTF-8") from None
    if not secret:
        raise ValueError("is empty")
    return secret

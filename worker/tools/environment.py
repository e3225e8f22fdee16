"""The environment of the processes that run tools: the worker's environment without the service's secrets.

Tools do not need these secrets. A package that a tool uses, or a `console.log(process.env)`, could disclose them.
A tool that reads the file `.env`, as `dotenv` does, still sees the secrets in that file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from common.settings.role_secrets import READERS, may_hold_secret

WITHHELD: Final = frozenset(name.upper() for name in READERS)
"""Withheld variables, in upper case, as settings are read in any case. `NAME_FILE` is withheld like `NAME`."""

_OF_COLLECTORS: Final = re.compile(r"OTEL_EXPORTER_OTLP_(?:[A-Z]+_)?HEADERS", re.IGNORECASE)
"""Variables of OpenTelemetry that hold the key of a collector. Its other variables are for tools, too."""


@dataclass(frozen=True, slots=True)
class ToolEnvironment:
    """The part of the environment that tools see.

    Attributes:
        variables: the environment of the tools.
        withheld: names of variables that are set in the worker and withheld from tools.
    """

    variables: dict[str, str] = field(repr=False)
    withheld: tuple[str, ...] = ()

    @classmethod
    def of(cls, variables: Mapping[str, str] = os.environ, *, granted: Collection[str] = ()) -> ToolEnvironment:
        """Split the environment of this process.

        Args:
            variables: the environment of this process.
            granted: names of secret variables that tools may see (`TOOLS_ENV`).
        """
        granted_names = {name.upper() for name in granted}
        withheld = {name for name in variables if name.upper() not in granted_names and _is_secret(name)}
        kept = {name: value for name, value in variables.items() if name not in withheld}
        return cls(kept, tuple(sorted(withheld)))


def _is_secret(name: str) -> bool:
    return may_hold_secret(name) or _OF_COLLECTORS.fullmatch(name) is not None

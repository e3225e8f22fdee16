"""The environment of the processes that run tools: this process's, without the secrets of the service.

No tool needs these, and a package of a tool's, or a `console.log(process.env)`, could carry them out. (A tool that
reads `.env`, as `dotenv` does, sees what is in there.)
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from common.settings.role_secrets import READERS, may_hold_secret

WITHHELD: Final = frozenset(name.upper() for name in READERS)
"""Variables, in capitals: settings are read in any case. Of each, the file that holds it is withheld, too."""


@dataclass(frozen=True, slots=True)
class ToolEnvironment:
    """What tools see of the environment.

    Attributes:
        variables: the environment.
        withheld: names of variables that are set, and that tools do not see.
    """

    variables: dict[str, str] = field(repr=False)
    withheld: tuple[str, ...] = ()

    @classmethod
    def of(cls, variables: Mapping[str, str] = os.environ, *, granted: Collection[str] = ()) -> ToolEnvironment:
        """Split the environment of this process.

        Args:
            variables: of this process.
            granted: names of variables that tools see all the same (`TOOLS_ENV`).
        """
        seen = {name.upper() for name in granted}
        withheld = {name for name in variables if name.upper() not in seen and may_hold_secret(name)}
        kept = {name: value for name, value in variables.items() if name not in withheld}
        return cls(kept, tuple(sorted(withheld)))

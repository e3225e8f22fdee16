"""The memory of a call in Redis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MemoryUpdate:
    """What is to be written of what was said in a call.

    Attributes:
        fields: what has changed; None: the field is gone.
        anew: they are all that there is.
        version: of this write; `renew` says whether Redis still has it.
    """

    fields: Mapping[str, str | None]
    anew: bool
    version: int = 0

    @property
    def chars(self) -> int:
        """How long it is."""
        return sum(len(name) + len(value or "") for name, value in self.fields.items())

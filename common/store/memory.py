"""The memory of a call in Redis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MemoryUpdate:
    """A write to the memory of a call.

    Attributes:
        fields: the changed fields; None: the field is deleted.
        anew: the fields are the whole memory, and replace it.
        version: of this write; `renew` reports whether Redis still has it.
    """

    fields: Mapping[str, str | None]
    anew: bool
    version: int = 0

    @property
    def chars(self) -> int:
        """Number of characters in the update."""
        return sum(len(name) + len(value or "") for name, value in self.fields.items())

"""The draft of a call's record: what another dispatcher needs to go on with the record, as Redis keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import orjson

from dispatcher.records.facts import CallFacts


@dataclass(frozen=True, slots=True)
class Draft:
    """What is known of a call that has not ended.

    Attributes:
        uuid: of the call.
        metadata: of the call.
        started_at: when the call began, in seconds since the epoch.
        facts: what its dispatchers have counted.
    """

    uuid: str
    metadata: Mapping[str, str]
    started_at: float
    facts: CallFacts

    def encoded(self) -> str:
        """Return the draft as JSON."""
        written = {
            "uuid": self.uuid,
            "metadata": self.metadata,
            "started_at": round(self.started_at, 3),
            "facts": self.facts.as_json(),
        }
        return orjson.dumps(written).decode()

    @classmethod
    def read(cls, uuid: str, written: str, *, with_text: bool) -> Self:
        """Return the draft of a call.

        Raises:
            ValueError: it cannot be read.
        """
        try:
            draft = orjson.loads(written)
            metadata, started_at = draft["metadata"], float(draft["started_at"])
            facts = CallFacts.from_json(draft["facts"], with_text=with_text)
        except (KeyError, TypeError) as error:
            raise ValueError(f"the draft of a call cannot be read: {error!r}") from error
        return cls(uuid, metadata if isinstance(metadata, dict) else {}, started_at, facts)

"""What a call is, whoever has it: its name, its metadata, its age."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class CallIdentity:
    """Facts of one call that its workers are told.

    Attributes:
        metadata: of the URL with which AVR Core connected.
        began_seconds: when the call began, at this dispatcher or an earlier one.
        uuid: of the call; empty before `init`.
        provider_config: field of `init`. It may hold a key, so it is never stored or logged.
        traceparent: of the call's first span; empty: the call has no trace.
    """

    metadata: dict[str, str]
    began_seconds: float
    uuid: str = ""
    provider_config: dict[str, Any] = field(default_factory=dict, repr=False)
    traceparent: str = ""

    def is_older(self, age_seconds: float, now_seconds: float) -> None:
        """Note that the call began before this dispatcher had it."""
        self.began_seconds = min(self.began_seconds, now_seconds - age_seconds)

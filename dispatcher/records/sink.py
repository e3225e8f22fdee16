"""The interface of a sink, which takes call records away from this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class Verdict(Enum):
    """The answer of a sink to records."""

    DELIVERED = "delivered"
    FAILED = "failed"
    """The sink did not take the records now."""
    REFUSED = "refused"
    """The sink never takes these records."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer of a sink, with its reason for an operator.

    Attributes:
        reason: short, and without content of a record.
        retry_after_seconds: the wait that the receiver asked for.
    """

    verdict: Verdict
    reason: str = ""
    retry_after_seconds: float | None = None


DELIVERED = Outcome(Verdict.DELIVERED)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One record for a sink."""

    id: str
    body: bytes


class Sink(Protocol):
    """A destination of call records.

    Attributes:
        name: in Redis, so that another process knows what a record waits for.
        batch: maximum number of records of one delivery.
        parallel: maximum number of deliveries at the same time.
    """

    name: str
    batch: int
    parallel: int

    async def deliver(self, records: Sequence[Delivery]) -> Outcome:
        """Deliver records, all or none of them; never raises."""

    async def aclose(self) -> None:
        """Close the sink; takes a bounded time."""

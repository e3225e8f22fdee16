"""Selectors: what an erasure names, as digests, so that no number stays in Redis after its record."""

from __future__ import annotations

import hashlib
from typing import Final

from common.plain_number import plain_number
from dispatcher.records.call_record import CallRecord

MAX_SELECTORS: Final = 9
"""Maximum number of selectors of a record: its uuid and 8 fields of metadata."""

_DIGEST_CHARS: Final = 24


def of_number(number: str) -> str:
    """Return the selector of a number, however it is written: with +, 00, spaces or hyphens."""
    return f"number:{_digest(plain_number(number))}"


def of_uuid(uuid: str) -> str:
    """Return the selector of a call."""
    return f"uuid:{_digest(uuid)}"


def of_record(record: CallRecord) -> tuple[str, ...]:
    """Return the selectors of a record: its uuid, and each value of its metadata as a number."""
    numbers = dict.fromkeys(of_number(value) for value in record.metadata.values() if value.strip())
    return (of_uuid(record.uuid), *numbers)[:MAX_SELECTORS]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_CHARS]

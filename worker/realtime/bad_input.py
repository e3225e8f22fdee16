"""The input of the Realtime API that cannot be true or understood, as it is counted."""

from __future__ import annotations

from enum import StrEnum


class BadInput(StrEnum):
    """A label of `avr_sts_upstream_errors_total`, beside the API's own codes."""

    EVENT = "bad_event"
    """An event, or a number in one, that cannot be understood."""
    USAGE = "bad_usage"
    """Usage with figures that cannot be true."""

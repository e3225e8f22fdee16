"""The records of keys and of commands for Asterisk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from common.link.kinds import Kind


@dataclass(frozen=True, slots=True)
class Dtmf:
    """One key."""

    kind: ClassVar[Kind] = Kind.DTMF
    digit: str = ""


@dataclass(frozen=True, slots=True)
class TelephonyCommand:
    """Do this on Asterisk when all that was sent before it has been heard, even if the worker is gone by then.

    Attributes:
        id: of the function call that wants it; ORDER_DONE brings it back. An order is carried out once.
        action: an `TelephonyAction`.
        extension, context, priority: of a transfer.
    """

    kind: ClassVar[Kind] = Kind.TELEPHONY_COMMAND
    id: str = ""
    action: str = ""
    extension: str = ""
    context: str = ""
    priority: str = ""


@dataclass(frozen=True, slots=True)
class TelephonyDone:
    """What avr-ami said to an order."""

    kind: ClassVar[Kind] = Kind.TELEPHONY_DONE
    id: str = ""
    ok: bool = False
    message: str = ""

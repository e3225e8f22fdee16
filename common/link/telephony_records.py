"""The records of keys and of commands for Asterisk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from common.link.kinds import Kind


@dataclass(frozen=True, slots=True)
class Dtmf:
    """A key that the caller pressed."""

    kind: ClassVar[Kind] = Kind.DTMF
    digit: str = ""


@dataclass(frozen=True, slots=True)
class TelephonyCommand:
    """A command for Asterisk, executed once, after the audio sent before has been heard, even without the worker.

    Attributes:
        id: of the function call that wants it; TELEPHONY_DONE repeats it.
        action: a `TelephonyAction`.
        extension, context, priority: of a transfer.
        end_reason: an `EndReason`, of a hang-up; empty: the agent wants it.
    """

    kind: ClassVar[Kind] = Kind.TELEPHONY_COMMAND
    id: str = ""
    action: str = ""
    extension: str = ""
    context: str = ""
    priority: str = ""
    end_reason: str = ""


@dataclass(frozen=True, slots=True)
class TelephonyDone:
    """The answer of avr-ami to a telephony command."""

    kind: ClassVar[Kind] = Kind.TELEPHONY_DONE
    id: str = ""
    ok: bool = False
    message: str = ""

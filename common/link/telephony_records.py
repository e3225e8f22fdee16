"""The records of keys and of commands for Asterisk."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from common.link.kinds import Kind


@dataclass(frozen=True, slots=True)
class Dtmf:
    """A key that the caller pressed."""

    kind: ClassVar[Kind] = Kind.DTMF
    digit: str = ""


@dataclass(frozen=True, slots=True)
class Collect:
    """Begin or end a collection of keys for a tool; COLLECTING answers a beginning.

    From COLLECTING on the caller's audio is silence, because keys are audible, and keys come as SECRET_KEY.

    Attributes:
        number: of the collection.
        on: the collection begins.
        seconds: maximum time until the end, for a beginning.
        abandoned: the collection ended without its keys, which the caller may still be pressing.
    """

    kind: ClassVar[Kind] = Kind.COLLECT
    number: int = 0
    on: bool = False
    seconds: float = 0.0
    abandoned: bool = False


@dataclass(frozen=True, slots=True)
class Collecting:
    """The caller's audio is silence from here on, and keys come as SECRET_KEY."""

    kind: ClassVar[Kind] = Kind.COLLECTING
    number: int = 0


@dataclass(frozen=True, slots=True)
class SecretKey:
    """A key that the caller pressed for a tool. It is no part of the conversation, and no other session gets it.

    Attributes:
        number: of the collection.
    """

    kind: ClassVar[Kind] = Kind.SECRET_KEY
    number: int = 0
    digit: str = field(default="", repr=False)


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

"""The records of a link itself: the greeting, and the commands of the calls API."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from common.link.kinds import Kind


@dataclass(frozen=True, slots=True)
class Hello:
    """The first record of each side; `challenge` is empty where CLUSTER_TOKEN is not set."""

    kind: ClassVar[Kind] = Kind.HELLO
    protocol: int = 0
    release: str = ""
    role: str = ""
    id: str = ""
    boot_id: str = ""
    challenge: str = ""


@dataclass(frozen=True, slots=True)
class Proof:
    """That the sender knows CLUSTER_TOKEN.

    Attributes:
        former: proofs by tokens that were replaced a moment ago: the other side may not have the new one yet.
    """

    kind: ClassVar[Kind] = Kind.PROOF
    proof: str = field(default="", repr=False)
    former: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Command:
    """The calls API wants something of a call: RESULT answers by number, EVENTs too where it watches."""

    kind: ClassVar[Kind] = Kind.COMMAND
    number: int = 0
    uuid: str = ""
    action: str = ""
    body: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to a command, as an HTTP status and a JSON body."""

    kind: ClassVar[Kind] = Kind.RESULT
    number: int = 0
    status: int = 0
    body: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened in a call; without a body: nothing more will."""

    kind: ClassVar[Kind] = Kind.EVENT
    number: int = 0
    body: dict[str, Any] = field(default_factory=dict)

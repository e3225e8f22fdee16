"""How dispatchers and workers prove to each other that they know CLUSTER_TOKEN, which never crosses the wire.

    dispatcher                                            worker
        │ ── HELLO, with 32 random bytes (challenge) ──────▶ │
        │ ◀── HELLO, with 32 random bytes (challenge) ────── │
        │ ── PROOF = HMAC(token, "dispatcher", both HELLOs) ▶│  checked: else the link is closed
        │ ◀─ PROOF = HMAC(token, "worker", both HELLOs) ──── │  checked: else the link is closed

Only then the link is up. What follows from that:

- A proof holds for these two HELLOs alone: recorded and sent again it is worth nothing, as the other side's
  challenge is new. And nobody in between can change who a HELLO says that it is.
- The role is in it, so a proof that was received is no answer to the one who sent it.
- The worker, to whom anybody may connect, answers last: who does not know the token gets nothing from it to try
  guesses on at home. Whoever a dispatcher connects to could; so the token is a random one
  (`openssl rand -hex 32`), which nobody guesses.
- It says who is there when the link opens, and no more: against who can read or change what is on the wire the
  link has TLS (CLUSTER_TLS_CERT).

A token that was replaced stays valid for a while (`tokens.Token`), because processes hear of the new one at
different times. A dispatcher proves that it has each valid one, and a worker answers by one that both know.

Without a token on either side the HELLOs are all there is.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from pydantic import SecretStr

from common.errors import LinkProtocolError
from common.link import wire
from common.link.wire import Hello, Kind
from common.net.tokens import MAX_FORMER, Token

CHALLENGE_BYTES: Final = 32
DISPATCHER: Final = "dispatcher"

_LABEL: Final = b"avr-sts link proof 1"
_CHALLENGE: Final = re.compile(r"[0-9a-f]{64}")

# These travel as the reason of the close frame, 123 bytes at most, so that both sides can log what to do.
_NOT_THERE: Final = "CLUSTER_TOKEN is set on the {here} and not on the {there}: set the same on both"
_NOT_HERE: Final = "CLUSTER_TOKEN is set on the {there} and not on the {here}: set the same on both"
_NOT_THE_SAME: Final = "CLUSTER_TOKEN of the dispatcher is not that of the worker: set the same on both"


class AuthenticationFailed(LinkProtocolError):
    """The peer does not know the cluster's token. The message says what to do."""


class TokenHandshake:
    """One end's part in the exchange, Sans-I/O. It is used for one link.

    Args:
        hello: of this end, without a challenge.
        token: CLUSTER_TOKEN; None: there is none.

    Attributes:
        hello: what to greet with.
        is_done: whether the peer has proved what it had to.
    """

    def __init__(self, hello: Hello, token: Token | None) -> None:
        self.is_done = False
        self._token = token
        self.hello = hello if token is None else replace(hello, challenge=secrets.token_hex(CHALLENGE_BYTES))
        # Those of now: the exchange is not changed by a replacement in the middle.
        self._tokens = () if token is None else token.valid()
        self.greeting = wire.encode(self.hello, 0)
        self._hellos: tuple[bytes, bytes] | None = None

    def greeted(self, peer: Hello, payload: bytes) -> list[bytes]:
        """The peer's HELLO has come, in these bytes; returns the records to send.

        Raises:
            NotProven: one side alone has a token.
            LinkProtocolError: it makes no sense as the other end of this link.
        """
        if self._token is None and not peer.challenge:
            self.is_done = True
            return []
        here, there = self.hello.role, peer.role
        if self._token is None:
            raise AuthenticationFailed(_NOT_HERE.format(here=here, there=_role(there)))
        if not peer.challenge:
            raise AuthenticationFailed(_NOT_THERE.format(here=here, there=_role(there)))
        if not _CHALLENGE.fullmatch(peer.challenge):
            raise LinkProtocolError("a challenge that is not 32 bytes in hexadecimal digits")
        if there == here:
            raise LinkProtocolError(f"a {here} greets a {here}")
        mine = self.greeting[wire.HEAD_BYTES :]
        self._hellos = (mine, payload) if here == DISPATCHER else (payload, mine)
        return [self._proof(self._tokens)] if here == DISPATCHER else []

    def proved(self, kind: int, payload: bytes) -> list[bytes]:
        """The record after the peer's HELLO has come; returns the records to send.

        Raises:
            NotProven: it is not the proof.
        """
        if kind != Kind.PROOF:
            raise AuthenticationFailed(f"record {kind} before the proof of CLUSTER_TOKEN")
        proof = wire.decode_control(wire.Proof, memoryview(payload))
        shown = (proof.proof, *proof.former[:MAX_FORMER])
        proven = [token for token in self._tokens if self._is_among(shown, token)]
        if not proven:
            raise AuthenticationFailed(_NOT_THE_SAME)
        self.is_done = True
        return [] if self.hello.role == DISPATCHER else [self._proof(proven[:1])]

    def _is_among(self, shown: Iterable[str], token: SecretStr) -> bool:
        wanted = self._mac(_other(self.hello.role), token).encode()
        # Of bytes: texts that are not ASCII it refuses to compare.
        return any(hmac.compare_digest(each.encode(errors="replace"), wanted) for each in shown)

    def _proof(self, tokens: Sequence[SecretStr]) -> bytes:
        proofs = [self._mac(self.hello.role, token) for token in tokens]
        return wire.encode(wire.Proof(proofs[0], tuple(proofs[1:])), 0)

    def _mac(self, role: str, token: SecretStr) -> str:
        assert self._hellos is not None
        # Each part has a fixed length but the role, which comes last: no two messages are the same bytes.
        parts = [_LABEL, *(hashlib.sha256(hello).digest() for hello in self._hellos), role.encode()]
        return hmac.digest(token.get_secret_value().encode(), b"".join(parts), "sha256").hex()


def _role(name: str) -> str:
    """What a peer calls itself, for the log: a role, or nothing that it may have thought of."""
    return name if name in (DISPATCHER, "worker") else "other side"


def _other(role: str) -> str:
    return "worker" if role == DISPATCHER else DISPATCHER

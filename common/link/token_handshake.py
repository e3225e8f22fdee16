"""The handshake by which dispatchers and workers prove that they know CLUSTER_TOKEN, which never crosses the wire.

    dispatcher                                            worker
        │ ── HELLO, with 32 random bytes (challenge) ──────▶ │
        │ ◀── HELLO, with 32 random bytes (challenge) ────── │
        │ ── PROOF = HMAC(token, "dispatcher", both HELLOs) ▶│  checked: else the link is closed
        │ ◀─ PROOF = HMAC(token, "worker", both HELLOs) ──── │  checked: else the link is closed

The link is up only after that. The handshake has these properties:

- A proof holds for these two HELLOs alone. A recorded proof is worthless, because the other side's challenge is
  new. Nor can a third party change a HELLO on the way.
- The role is part of a proof, so a received proof cannot be sent back as an answer.
- Any process may connect to a worker, so the worker answers last: a peer without the token gets no material for
  offline guesses. A process to which a dispatcher connects does get such material. The token must therefore be
  random (`openssl rand -hex 32`), which makes guesses hopeless.
- The handshake authenticates the peers when the link opens, and no more. TLS on the link (CLUSTER_TLS_CERT)
protects
  against third parties that can read or change the traffic.

A replaced token stays valid for a while (`tokens.Token`), because processes get the new one at different times. A
dispatcher proves that it knows each valid token, and a worker answers with one that both know.

If neither side has a token, the HELLOs are the whole handshake.
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

# These texts are reasons of close frames (at most 123 bytes). Both sides can thus log how to fix the problem.
_NOT_THERE: Final = "CLUSTER_TOKEN is set on the {here} and not on the {there}: set the same on both"
_NOT_HERE: Final = "CLUSTER_TOKEN is set on the {there} and not on the {here}: set the same on both"
_NOT_THE_SAME: Final = "CLUSTER_TOKEN of the dispatcher is not that of the worker: set the same on both"


class AuthenticationFailed(LinkProtocolError):
    """The peer does not know the cluster's token. The message says how to fix it."""


class TokenHandshake:
    """One end of the handshake of one link, Sans-I/O.

    Args:
        hello: of this end, without a challenge.
        token: CLUSTER_TOKEN; None: no token is set.

    Attributes:
        hello: the HELLO of this end, with its challenge.
        greeting: the same, encoded.
        is_done: whether the peer has proved all that it must.
    """

    def __init__(self, hello: Hello, token: Token | None) -> None:
        self.is_done = False
        self._token = token
        self.hello = hello if token is None else replace(hello, challenge=secrets.token_hex(CHALLENGE_BYTES))
        # A replacement of the token during the handshake does not change it.
        self._tokens = () if token is None else token.valid()
        self.greeting = wire.encode(self.hello, 0)
        self._hellos: tuple[bytes, bytes] | None = None

    def greeted(self, peer: Hello, payload: bytes) -> list[bytes]:
        """Take the peer's HELLO; return the records to send.

        Args:
            peer: the HELLO.
            payload: its bytes.

        Raises:
            AuthenticationFailed: only one side has a token.
            LinkProtocolError: the HELLO cannot come from the other end of this link.
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
        """Take the record after the peer's HELLO; return the records to send.

        Raises:
            AuthenticationFailed: the record is not the proof.
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
        # As bytes, because `compare_digest` refuses text that is not ASCII.
        return any(hmac.compare_digest(each.encode(errors="replace"), wanted) for each in shown)

    def _proof(self, tokens: Sequence[SecretStr]) -> bytes:
        proofs = [self._mac(self.hello.role, token) for token in tokens]
        return wire.encode(wire.Proof(proofs[0], tuple(proofs[1:])), 0)

    def _mac(self, role: str, token: SecretStr) -> str:
        assert self._hellos is not None
        # All parts but the last one have a fixed length, so no two messages have the same bytes.
        parts = [_LABEL, *(hashlib.sha256(hello).digest() for hello in self._hellos), role.encode()]
        return hmac.digest(token.get_secret_value().encode(), b"".join(parts), "sha256").hex()


def _role(name: str) -> str:
    """Return a peer's role for the log, without repeating an unknown name, which may be an attack."""
    return name if name in (DISPATCHER, "worker") else "other side"


def _other(role: str) -> str:
    return "worker" if role == DISPATCHER else DISPATCHER

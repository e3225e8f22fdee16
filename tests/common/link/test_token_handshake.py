"""The exchange of proofs: two ends that talk to each other, and what an attacker may try."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from common.errors import LinkProtocolError
from common.link import token_handshake, wire
from common.link.token_handshake import AuthenticationFailed, TokenHandshake
from common.link.wire import Hello, Kind
from common.net.tokens import Token

TOKEN = Token(SecretStr("the token of the cluster"))
OTHER = Token(SecretStr("the token of another one"))
DISPATCHER = Hello(1, "1.0.0", "dispatcher", "d-1", "boot_id-d")
WORKER = Hello(1, "1.0.0", "worker", "w-1", "boot_id-w")
MAX_CLOSE_REASON_BYTES = 123


def payload_of(record: bytes) -> bytes:
    """Return the payload of a message's only record."""
    ((_, channel, payload),) = wire.decode(record)
    assert channel == 0
    return bytes(payload)


def greet(end: TokenHandshake, record: bytes) -> list[bytes]:
    """Hand a HELLO to an end."""
    payload = payload_of(record)
    return end.greeted(wire.decode_control(Hello, memoryview(payload)), payload)


def ends(dispatcher: Token | None, worker: Token | None) -> tuple[TokenHandshake, TokenHandshake]:
    return TokenHandshake(DISPATCHER, dispatcher), TokenHandshake(WORKER, worker)


def test_both_ends_prove_the_same_token() -> None:
    dispatcher, worker = ends(TOKEN, TOKEN)
    assert greet(worker, dispatcher.greeting) == []
    (proof,) = greet(dispatcher, worker.greeting)
    done = [(dispatcher.is_done, worker.is_done)]
    (answer,) = worker.proved(Kind.PROOF, payload_of(proof))
    done.append((dispatcher.is_done, worker.is_done))
    assert dispatcher.proved(Kind.PROOF, payload_of(answer)) == []
    done.append((dispatcher.is_done, worker.is_done))
    assert done == [(False, False), (False, True), (True, True)]


def test_the_token_never_crosses_the_wire() -> None:
    dispatcher, worker = ends(TOKEN, TOKEN)
    greet(worker, dispatcher.greeting)
    (proof,) = greet(dispatcher, worker.greeting)
    (answer,) = worker.proved(Kind.PROOF, payload_of(proof))
    wire = dispatcher.greeting + worker.greeting + proof + answer
    assert TOKEN.value.get_secret_value().encode() not in wire
    assert hashlib.sha256(TOKEN.value.get_secret_value().encode()).hexdigest().encode() not in wire
    assert proof != answer


def test_without_a_token_the_hellos_are_all() -> None:
    dispatcher, worker = ends(None, None)
    assert greet(worker, dispatcher.greeting) == []
    assert greet(dispatcher, worker.greeting) == []
    assert worker.is_done
    assert dispatcher.is_done
    assert dispatcher.hello == DISPATCHER


def test_a_worker_sends_nothing_after_a_wrong_token() -> None:
    dispatcher, worker = ends(OTHER, TOKEN)
    greet(worker, dispatcher.greeting)
    (proof,) = greet(dispatcher, worker.greeting)
    with pytest.raises(
        AuthenticationFailed, match="CLUSTER_TOKEN of the dispatcher is not that of the worker: set the same"
    ):
        worker.proved(Kind.PROOF, payload_of(proof))
    assert not worker.is_done


@pytest.mark.parametrize(
    ("dispatcher_token", "worker_token", "message"),
    [
        (TOKEN, None, "CLUSTER_TOKEN is set on the dispatcher and not on the worker: set the same on both"),
        (None, TOKEN, "CLUSTER_TOKEN is set on the worker and not on the dispatcher: set the same on both"),
    ],
)
def test_both_ends_report_a_token_on_one_side_alone(
    dispatcher_token: Token | None, worker_token: Token | None, message: str
) -> None:
    dispatcher, worker = ends(dispatcher_token, worker_token)
    for end, other in ((dispatcher, worker), (worker, dispatcher)):
        with pytest.raises(AuthenticationFailed) as caught:
            greet(end, other.greeting)
        assert str(caught.value) == message
        assert not end.is_done


def test_the_advice_fits_into_a_close_frame() -> None:
    for text in (token_handshake._NOT_HERE, token_handshake._NOT_THERE, token_handshake._NOT_THE_SAME):
        longest = text.format(here="dispatcher", there="other side")
        assert len(longest.encode()) <= MAX_CLOSE_REASON_BYTES


def test_a_recorded_proof_is_worth_nothing_the_next_time() -> None:
    dispatcher, worker = ends(TOKEN, TOKEN)
    greet(worker, dispatcher.greeting)
    (recorded,) = greet(dispatcher, worker.greeting)
    worker.proved(Kind.PROOF, payload_of(recorded))
    # The same HELLO and the same proof, to the same worker a moment later.
    again = TokenHandshake(WORKER, TOKEN)
    greet(again, dispatcher.greeting)
    with pytest.raises(AuthenticationFailed):
        again.proved(Kind.PROOF, payload_of(recorded))


def test_a_proof_sent_back_is_none() -> None:
    """A peer without a token returns the dispatcher's own proof."""
    dispatcher = TokenHandshake(DISPATCHER, TOKEN)
    pretended = replace(dispatcher.hello, role="worker", id="w-1")
    (proof,) = greet(dispatcher, wire.encode(pretended, 0))
    with pytest.raises(AuthenticationFailed):
        dispatcher.proved(Kind.PROOF, payload_of(proof))


@pytest.mark.parametrize("hello", [DISPATCHER, WORKER], ids=["dispatcher", "worker"])
def test_a_hello_sent_back_is_refused(hello: Hello) -> None:
    end = TokenHandshake(hello, TOKEN)
    with pytest.raises(LinkProtocolError, match=f"a {hello.role} greets a {hello.role}"):
        greet(end, end.greeting)


@pytest.mark.parametrize("changed", [{"id": "w-2"}, {"release": "9"}, {"boot_id": "x"}, {"protocol": 7}])
def test_a_changed_hello_spoils_the_proof(changed: dict[str, object]) -> None:
    dispatcher, worker = ends(TOKEN, TOKEN)
    greet(worker, dispatcher.greeting)
    fields = orjson.loads(payload_of(worker.greeting)) | changed
    (proof,) = greet(dispatcher, wire.encode(Hello(**fields), 0))
    with pytest.raises(AuthenticationFailed):
        worker.proved(Kind.PROOF, payload_of(proof))


def test_a_worker_gives_a_stranger_nothing_to_try_guesses_on() -> None:
    worker = TokenHandshake(WORKER, TOKEN)
    stranger = replace(DISPATCHER, challenge="00" * 32)
    assert greet(worker, wire.encode(stranger, 0)) == []
    for record in (wire.encode(wire.Proof("00" * 32), 0), wire.encode(wire.Proof(""), 0)):
        with pytest.raises(AuthenticationFailed):
            worker.proved(Kind.PROOF, payload_of(record))


@pytest.mark.parametrize("challenge", ["0", "00" * 31, "00" * 33, "0g" * 32, "00" * 100_000, "è" * 64, " " * 64])
def test_a_challenge_has_its_form(challenge: str) -> None:
    with pytest.raises(LinkProtocolError, match="challenge"):
        greet(TokenHandshake(WORKER, TOKEN), wire.encode(replace(DISPATCHER, challenge=challenge), 0))


@pytest.mark.parametrize("kind", [Kind.HELLO, Kind.OPEN, Kind.COMMAND, Kind.CALLER_AUDIO, 200])
def test_nothing_goes_before_the_proof(kind: int) -> None:
    dispatcher, worker = ends(TOKEN, TOKEN)
    greet(worker, dispatcher.greeting)
    with pytest.raises(AuthenticationFailed, match="before the proof"):
        worker.proved(kind, b"{}")


@given(st.one_of(st.text(), st.text("0123456789abcdef", min_size=64, max_size=64)))
def test_no_other_text_is_the_proof(shown: str) -> None:
    dispatcher, worker = ends(TOKEN, TOKEN)
    greet(worker, dispatcher.greeting)
    # JSON that reaches us cannot hold half a character, but a defect here is to be a refusal all the same.
    if "\ud800" <= max(shown, default="") <= "\udfff":
        return
    with pytest.raises(AuthenticationFailed):
        worker.proved(Kind.PROOF, orjson.dumps({"proof": shown}))


def test_proofs_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []
    compare = hmac.compare_digest

    def seen(a: bytes, b: bytes) -> bool:
        compared.append(b)
        return compare(a, b)

    monkeypatch.setattr(hmac, "compare_digest", seen)
    dispatcher, worker = ends(TOKEN, TOKEN)
    greet(worker, dispatcher.greeting)
    (proof,) = greet(dispatcher, worker.greeting)
    worker.proved(Kind.PROOF, payload_of(proof))
    assert compared == [orjson.loads(payload_of(proof))["proof"].encode()]


def test_challenges_are_new_each_time() -> None:
    assert len({TokenHandshake(WORKER, TOKEN).hello.challenge for _ in range(100)}) == 100


def test_an_unknown_role_of_a_peer_is_not_repeated() -> None:
    with pytest.raises(AuthenticationFailed) as caught:
        greet(TokenHandshake(WORKER, TOKEN), wire.encode(replace(DISPATCHER, role="x" * 1000, challenge=""), 0))
    assert (
        str(caught.value) == "CLUSTER_TOKEN is set on the worker and not on the other side: set the same on both"
    )


def replaced(*values: str) -> Token:
    """Return a token that had each of these values in turn."""
    token = Token(SecretStr(values[0]))
    for value in values[1:]:
        token.replace(SecretStr(value))
    return token


@pytest.mark.parametrize(
    ("dispatcher_token", "worker_token"),
    [
        (replaced("the old token", "the new token"), replaced("the old token")),
        (replaced("the old token"), replaced("the old token", "the new token")),
        (replaced("the old token", "the new token"), replaced("the new token")),
        (replaced("the new token"), replaced("the old token", "the new token")),
        (replaced("the old token", "the new token"), replaced("the old token", "another token")),
    ],
    ids=["dispatcher first", "worker first", "old dispatcher", "old worker", "two replacements"],
)
def test_the_ends_agree_while_a_token_is_replaced(dispatcher_token: Token, worker_token: Token) -> None:
    dispatcher, worker = ends(dispatcher_token, worker_token)
    greet(worker, dispatcher.greeting)
    (proof,) = greet(dispatcher, worker.greeting)
    (answer,) = worker.proved(Kind.PROOF, payload_of(proof))
    assert dispatcher.proved(Kind.PROOF, payload_of(answer)) == []
    assert dispatcher.is_done
    assert worker.is_done


def test_a_peer_with_an_expired_token_is_refused() -> None:
    dispatcher, worker = ends(replaced("a", "b", "c"), replaced("d", "e", "f"))
    greet(worker, dispatcher.greeting)
    (proof,) = greet(dispatcher, worker.greeting)
    with pytest.raises(AuthenticationFailed):
        worker.proved(Kind.PROOF, payload_of(proof))


def test_more_former_proofs_than_there_can_be_are_not_looked_at() -> None:
    dispatcher, worker = ends(TOKEN, TOKEN)
    greet(worker, dispatcher.greeting)
    (proof,) = greet(dispatcher, worker.greeting)
    right = wire.decode_control(wire.Proof, memoryview(payload_of(proof))).proof
    many = wire.Proof("0" * 64, (*("0" * 64 for _ in range(100)), right))
    with pytest.raises(AuthenticationFailed):
        worker.proved(Kind.PROOF, payload_of(wire.encode(many, 0)))

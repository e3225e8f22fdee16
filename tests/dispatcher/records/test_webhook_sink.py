"""The webhook against a real HTTP server, which verifies signatures by the specification's own library."""

from __future__ import annotations

import base64
import hashlib
import hmac
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from standardwebhooks import Webhook

from dispatcher.records.sink import DELIVERED, Delivery, Outcome, Verdict
from dispatcher.records.webhook_sink import WebhookSink, signature
from tests.dispatcher.records.receiver import SECRET, Receiver

RECORD = Delivery("record-1", '{"ending":"completed","said":[{"text":"Città"}]}'.encode())


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


@pytest.fixture
async def sink(receiver: Receiver) -> AsyncIterator[WebhookSink]:
    sink = WebhookSink(receiver.url, lambda: SECRET)
    yield sink
    await sink.aclose()


def test_signature_is_that_of_the_specification() -> None:
    # The example of the specification's own test (libraries/python, test_webhook.py).
    expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert signature(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}') == expected


def test_plain_secret_is_the_key_of_the_signature() -> None:
    digest = hmac.new(b"a-plain-secret-of-this-test", b"id.5.body", hashlib.sha256).digest()
    assert signature("a-plain-secret-of-this-test", "id", 5, b"body") == f"v1,{base64.b64encode(digest).decode()}"


async def test_record_arrives_with_its_bytes_and_id(sink: WebhookSink, receiver: Receiver) -> None:
    assert await sink.deliver([RECORD]) == DELIVERED
    assert receiver.bodies == [RECORD.body]
    assert receiver.ids == [RECORD.id]


async def test_replaced_secret_signs_the_next_record(receiver: Receiver) -> None:
    secrets = ["whsec_" + base64.b64encode(bytes(32)).decode(), SECRET]
    sink = WebhookSink(receiver.url, lambda: secrets[0])
    assert (await sink.deliver([RECORD])).verdict is Verdict.FAILED
    secrets.pop(0)
    assert await sink.deliver([RECORD]) == DELIVERED
    await sink.aclose()


@pytest.mark.parametrize("status", [300, 301, 307, 400, 401, 404, 408, 429, 500, 503])
async def test_other_answers_are_failures(sink: WebhookSink, receiver: Receiver, status: int) -> None:
    receiver.answer = lambda *_: web.Response(status=status, headers={"Location": "/elsewhere"})
    assert await sink.deliver([RECORD]) == Outcome(Verdict.FAILED, f"HTTP {status}")
    assert receiver.bodies == []


async def test_retry_after_is_read(sink: WebhookSink, receiver: Receiver) -> None:
    receiver.answer = lambda *_: web.Response(status=503, headers={"Retry-After": "120"})
    assert await sink.deliver([RECORD]) == Outcome(Verdict.FAILED, "HTTP 503", 120.0)


async def test_410_refuses_the_record(sink: WebhookSink, receiver: Receiver) -> None:
    receiver.answer = lambda *_: web.Response(status=410)
    assert await sink.deliver([RECORD]) == Outcome(Verdict.REFUSED, "HTTP 410")


async def test_receiver_that_does_not_answer_times_out(receiver: Receiver) -> None:
    receiver.hang = True
    sink = WebhookSink(receiver.url, lambda: SECRET, answer_seconds=0.1)
    assert await sink.deliver([RECORD]) == Outcome(Verdict.FAILED, "no answer within 0.1 s")
    await sink.aclose()


async def test_long_answer_is_not_read(sink: WebhookSink, receiver: Receiver) -> None:
    receiver.answer = lambda *_: web.Response(body=bytes(1 << 24))
    assert await sink.deliver([RECORD]) == DELIVERED


async def test_failure_does_not_show_the_url() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    sink = WebhookSink(f"http://user:password@127.0.0.1:{port}/?token=secret", lambda: SECRET)
    outcome = await sink.deliver([RECORD])
    assert outcome.verdict is Verdict.FAILED
    assert "password" not in outcome.reason
    assert "secret" not in outcome.reason
    await sink.aclose()


def test_library_refuses_another_body() -> None:
    """The verifier of these tests does verify."""
    headers = {"webhook-id": "a", "webhook-timestamp": "1", "webhook-signature": signature(SECRET, "a", 1, b"{}")}
    with pytest.raises(Exception, match=r"too old|signature"):
        Webhook(SECRET).verify(b"[]", headers)

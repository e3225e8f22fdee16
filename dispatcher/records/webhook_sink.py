"""The webhook: each record is posted, signed as the Standard Webhooks specification says.

The headers `webhook-id`, `webhook-timestamp` and `webhook-signature` go with it. The signature is HMAC-SHA256 over
`id.timestamp.body` (github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md, 2026-11-30).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Sequence
from typing import Final

import aiohttp

from common.net.retry_after import seconds_of
from common.runtime.release import RELEASE
from common.settings.record_values import secret_key
from dispatcher.records.sink import DELIVERED, Delivery, Outcome, Verdict

NAME: Final = "webhook"
MAX_IN_FLIGHT: Final = 4
CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 15.0
"""Maximum time of a request, connecting included."""


def signature(secret: str, record_id: str, timestamp: int, body: bytes) -> str:
    """Return the value of the header `webhook-signature`."""
    signed = b".".join((record_id.encode(), str(timestamp).encode(), body))
    digest = hmac.new(secret_key(secret), signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


class WebhookSink:
    """The receiver at CALL_RECORDS_WEBHOOK."""

    name = NAME
    batch = 1
    parallel = MAX_IN_FLIGHT

    def __init__(self, url: str, secret: Callable[[], str], *, answer_seconds: float = ANSWER_SECONDS) -> None:
        """Make a sink that connects at its first record.

        Args:
            url: of the receiver.
            secret: returns the current secret, which a reload may replace.
            answer_seconds: maximum time of a request.
        """
        self._url = url
        self._secret = secret
        self._answer_seconds = answer_seconds
        self._http: aiohttp.ClientSession | None = None

    async def deliver(self, records: Sequence[Delivery]) -> Outcome:
        """Post a record; any answer with a status of 2xx takes it."""
        (record,) = records
        timestamp = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"avr-sts-openai/{RELEASE}",
            "webhook-id": record.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(self._secret(), record.id, timestamp, record.body),
        }
        try:
            # A redirect is not followed: the record must reach the host that the operator named.
            async with self._client().post(
                self._url, data=record.body, headers=headers, allow_redirects=False
            ) as response:
                return _outcome(response.status, response.headers.get("Retry-After"))
        except TimeoutError:
            return Outcome(Verdict.FAILED, f"no answer within {self._answer_seconds:g} s")
        # The message may have the URL with its password, so only the kind is named.
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Outcome(Verdict.FAILED, type(error).__name__)

    async def aclose(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.close()

    def _client(self) -> aiohttp.ClientSession:
        if self._http is None:
            timeout = aiohttp.ClientTimeout(total=self._answer_seconds, connect=CONNECT_SECONDS)
            connector = aiohttp.TCPConnector(limit=MAX_IN_FLIGHT)
            self._http = aiohttp.ClientSession(
                connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._http


def _outcome(status: int, retry_after: str | None) -> Outcome:
    if 200 <= status < 300:
        return DELIVERED
    # "410 Gone": the specification's word for a receiver that wants no more.
    verdict = Verdict.REFUSED if status == 410 else Verdict.FAILED
    return Outcome(verdict, f"HTTP {status}", seconds_of(retry_after))

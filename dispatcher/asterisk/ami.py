"""Hang up and transfer calls on Asterisk, through avr-ami."""

from __future__ import annotations

from typing import Any

import aiohttp

from common.errors import DependencyError
from common.net import json_depth

# Maximum time for avr-ami's answer. avr-ami answers after Asterisk has answered.
TIMEOUT_SECONDS = 5.0
MAX_MESSAGE_CHARS = 300


class AmiError(DependencyError):
    """A command that avr-ami refused or did not answer. The message is for the model and the log.

    Attributes:
        is_fault: the operator has something to mend.
    """

    is_fault = True


class NotPossible(AmiError):
    """A command that no avr-ami could carry out for this call."""

    is_fault = False


class Ami:
    """A client of avr-ami at `AMI_URL`."""

    def __init__(self, url: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._url = url.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._http: aiohttp.ClientSession | None = None
        self._is_closed = False

    async def hang_up(self, uuid: str) -> str:
        """End the call on Asterisk, and return avr-ami's message.

        Raises:
            AmiError: avr-ami refused or did not answer.
        """
        return await self._post("hangup", {"uuid": uuid})

    async def transfer(self, uuid: str, extension: str, context: str, priority: str) -> str:
        """Transfer the call to another extension, and return avr-ami's message.

        Raises:
            AmiError: avr-ami refused or did not answer.
        """
        # A priority is a number or a label of the dialplan.
        wanted: int | str = int(priority) if priority.isascii() and priority.isdigit() else priority
        body = {"uuid": uuid, "exten": extension, "context": context, "priority": wanted}
        return await self._post("transfer", body)

    async def close(self) -> None:
        """Close the connections to avr-ami. Later commands fail."""
        self._is_closed = True
        if self._http is not None:
            await self._http.close()

    async def _post(self, action: str, body: dict[str, Any]) -> str:
        # A call that ends while the dispatcher stops may come late. Its session would never be closed.
        if self._is_closed:
            raise AmiError(f"avr-ami could not {action}: the service is stopping")
        if self._http is None:
            self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._timeout_seconds))
        try:
            async with self._http.post(f"{self._url}/{action}", json=body) as response:
                raw = await response.content.read(4096)
                message = _message(raw)
                if response.status >= 400:
                    raise AmiError(f"avr-ami answered HTTP {response.status} to {action}: {message}")
                return message
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            reason = str(error) or f"no answer within {self._timeout_seconds:g} s"
            raise AmiError(f"avr-ami could not {action}: {reason}") from error


def _message(raw: bytes) -> str:
    try:
        data = json_depth.read(raw)
    except ValueError:
        data = None
    message = data.get("message") if isinstance(data, dict) else None
    return str(message or raw.decode(errors="replace"))[:MAX_MESSAGE_CHARS]

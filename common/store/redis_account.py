"""The user and password of a Redis, which can change while a process runs."""

from __future__ import annotations

from typing import Any

from redis.asyncio.connection import parse_url
from redis.credentials import CredentialProvider


class Account(CredentialProvider):
    """What each new connection is told of user and password.

    Attributes:
        address: the rest of the URL, as options of a connection.

    Raises:
        ValueError: the URL is none of a Redis.
    """

    def __init__(self, url: str) -> None:
        self.address: dict[str, Any] = {}
        self._credentials: tuple[str, ...] = ()
        self.change(url)

    def change(self, url: str) -> None:
        """Takes user and password from a URL."""
        options: dict[str, Any] = dict(parse_url(url))
        user, password = options.pop("username", None), options.pop("password", None)
        self.address = self.address or options
        self._credentials = (user, password or "") if user else (password,) if password else ()

    def get_credentials(self) -> Any:
        """Returns the arguments of AUTH; none, if there is no password."""
        return self._credentials

    async def get_credentials_async(self) -> Any:
        """Returns the arguments of AUTH; none, if there is no password."""
        return self._credentials

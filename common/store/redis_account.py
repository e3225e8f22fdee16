"""The user and password of a Redis server, which can change while a process runs."""

from __future__ import annotations

from typing import Any

from redis.asyncio.connection import parse_url
from redis.credentials import CredentialProvider


class Account(CredentialProvider):
    """The user and password that new connections use.

    Attributes:
        address: the rest of the URL, as options of a connection.

    Raises:
        ValueError: the URL is not a Redis URL.
    """

    def __init__(self, url: str) -> None:
        self.address: dict[str, Any] = {}
        self._credentials: tuple[str, ...] = ()
        self.change(url)

    def change(self, url: str) -> None:
        """Use the user and password of another URL from now on."""
        options: dict[str, Any] = dict(parse_url(url))
        user, password = options.pop("username", None), options.pop("password", None)
        self.address = self.address or options
        self._credentials = (user, password or "") if user else (password,) if password else ()

    def get_credentials(self) -> Any:
        """Return the arguments of AUTH; none if there is no password."""
        return self._credentials

    async def get_credentials_async(self) -> Any:
        """Return the arguments of AUTH; none if there is no password."""
        return self._credentials

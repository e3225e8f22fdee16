"""The user and password of a Redis server, which can change while a process runs."""

from __future__ import annotations

from typing import Any

from redis.asyncio.connection import parse_url
from redis.credentials import CredentialProvider

from common.net.redis_url import SentinelUrl, is_of_sentinels, parse_sentinels


class Account(CredentialProvider):
    """The user and password that new connections use.

    Attributes:
        address: the rest of the URL, as options of a connection. With sentinels it has no host.
        sentinels: where the sentinels are, if the URL names some.
        of_sentinels: the user and password of the sentinels.

    Raises:
        ValueError: the URL is not a Redis URL.
    """

    def __init__(self, url: str) -> None:
        self.address: dict[str, Any] = {}
        self.sentinels: SentinelUrl | None = None
        self.of_sentinels: Account | None = None
        self._credentials: tuple[str, ...] = ()
        self.change(url)

    def change(self, url: str) -> None:
        """Use the user and password of another URL from now on, and those of its sentinels."""
        if is_of_sentinels(url):
            sentinels = parse_sentinels(url)
            if self.of_sentinels is None:
                self.sentinels, self.of_sentinels = sentinels, Account(sentinels.account)
            self.of_sentinels.change(sentinels.account)
            url = sentinels.primary
        options: dict[str, Any] = dict(parse_url(url))
        user, password = options.pop("username", None), options.pop("password", None)
        if self.sentinels is not None:
            options.pop("host", None)
        self.address = self.address or options
        self._credentials = (user, password or "") if user else (password,) if password else ()

    def get_credentials(self) -> Any:
        """Return the arguments of AUTH; none if there is no password."""
        return self._credentials

    async def get_credentials_async(self) -> Any:
        """Return the arguments of AUTH; none if there is no password."""
        return self._credentials

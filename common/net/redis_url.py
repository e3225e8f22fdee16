"""URLs of Redis: one server, or the sentinels that know the primary of a service.

    redis://[[user]:[password]@]host[:port][/db][?options]       rediss://: with TLS
    unix://[[user]:[password]@]/path[?options]
    redis+sentinel://[[user]:[password]@]host[:port][,host[:port]...]/service[/db][?options]
                                                                 rediss+sentinel://: with TLS

User and password are those of the primary; those of the sentinels are the options `sentinel_username` and
`sentinel_password`. All other options are redis-py's: those of TLS (`ssl_...`) for primary and sentinels, the rest
for the primary. Prefect reads the same form (docs.prefect.io, prefect_redis.connection, read 2026-12-01).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

REDIS_PORT: Final = 6379
SENTINEL_PORT: Final = 26379
MAX_SENTINELS: Final = 32

FORMS: Final = (
    "redis://host:port/db, rediss://host:port/db, unix:///path or "
    "redis+sentinel://host:port,host:port/service/db (rediss+sentinel: with TLS)"
)

_SCHEMES: Final = {"redis+sentinel": "redis", "rediss+sentinel": "rediss"}
_ACCOUNT: Final = ("sentinel_username", "sentinel_password")


@dataclass(frozen=True, slots=True)
class SentinelUrl:
    """The parts of a URL of sentinels.

    Attributes:
        sentinels: host and port of each, in the order of the URL.
        service: name of the primary among the sentinels, as in `sentinel monitor NAME ...`.
        primary: plain Redis URL with the account, database and options of the primary; its host says nothing.
        account: plain Redis URL with the user and password of the sentinels; its host says nothing.
    """

    sentinels: tuple[tuple[str, int], ...]
    service: str
    primary: str
    account: str


def is_of_sentinels(url: str) -> bool:
    """Return whether a URL names sentinels."""
    return url.partition("://")[0].lower() in _SCHEMES


def parse_sentinels(url: str) -> SentinelUrl:
    """Return the parts of a URL of sentinels.

    Raises:
        ValueError: the URL is wrong; says what is wrong, and shows no part of the URL.
    """
    scheme, authority, path, query = _split(url)
    user, _, hosts = authority.rpartition("@")
    listed = hosts.split(",")
    if len(listed) > MAX_SENTINELS:
        raise ValueError(f"must name at most {MAX_SENTINELS} sentinels")
    service, _, database = path.removeprefix("/").partition("/")
    if not service:
        raise ValueError("must name the service of the sentinels as its path, such as /mymaster")
    if database and not (database.isascii() and database.isdigit()):
        raise ValueError("must end with the service and the number of a database, such as /mymaster/0")
    options = parse_qsl(query)
    of_sentinels = {name: value for name, value in options if name.startswith("sentinel_")}
    if unknown := sorted(of_sentinels.keys() - set(_ACCOUNT)):
        raise ValueError(f"must have no option {unknown[0]}: of these there are {' and '.join(_ACCOUNT)}")
    of_primary = urlencode([(name, value) for name, value in options if name not in of_sentinels])
    plain = _SCHEMES[scheme]
    username, password = (quote(of_sentinels.get(name, ""), safe="") for name in _ACCOUNT)
    return SentinelUrl(
        tuple(_address(each) for each in listed),
        unquote(service),
        urlunsplit((plain, f"{user}@primary" if user else "primary", f"/{database}", of_primary, "")),
        f"{plain}://{username}:{password}@sentinel/" if username or password else f"{plain}://sentinel/",
    )


def addresses(url: str) -> tuple[tuple[str, int], ...]:
    """Return host and port of the server, or of each sentinel; nothing for a Unix socket."""
    if is_of_sentinels(url):
        return parse_sentinels(url).sentinels
    parts = urlsplit(url)
    return () if parts.hostname is None else ((parts.hostname, parts.port or REDIS_PORT),)


def has_password(url: str) -> bool:
    """Return whether a URL contains the password of the server, or of the primary."""
    return ":" in _split(url)[1].rpartition("@")[0]


def has_sentinel_password(url: str) -> bool:
    """Return whether a URL contains the password of the sentinels."""
    return is_of_sentinels(url) and any(name == _ACCOUNT[1] for name, _ in parse_qsl(_split(url)[3]))


def with_password(url: str, password: str) -> str:
    """Return the URL with this password of the server or primary, and with the URL's own user."""
    scheme, authority, path, query = _split(url)
    user, _, hosts = authority.rpartition("@")
    account = f"{user.partition(':')[0]}:{quote(password, safe='')}"
    return _joined(scheme, f"{account}@{hosts}", path, query)


def with_sentinel_password(url: str, password: str) -> str:
    """Return a URL of sentinels with this password of theirs, and with the URL's own user of theirs."""
    scheme, authority, path, query = _split(url)
    added = urlencode({_ACCOUNT[1]: password}, quote_via=quote)
    return _joined(scheme, authority, path, f"{query}&{added}" if query else added)


def without_account(url: str) -> str:
    """Return the URL without users and passwords."""
    scheme, authority, path, query = _split(url)
    if is_of_sentinels(url):
        query = urlencode([each for each in parse_qsl(query) if each[0] not in _ACCOUNT])
    return _joined(scheme, authority.rpartition("@")[2], path, query)


def shown(url: str) -> str:
    """Return the address of a URL as people may see it: without users, passwords and options."""
    scheme, authority, path, _ = _split(url)
    if scheme == "unix":
        return f"unix://{path}"
    hosts = authority.rpartition("@")[2]
    if is_of_sentinels(url):
        return f"{scheme}://{hosts}{path}"
    try:
        ((host, port),) = addresses(url) or (("localhost", REDIS_PORT),)
    except ValueError:
        return f"{scheme}://{hosts}{path}"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{path}"


def passwords(url: str) -> Iterator[str]:
    """Yield the passwords of a URL, as they are and as they are quoted."""
    _, authority, _, query = _split(url)
    _, colon, password = authority.rpartition("@")[0].partition(":")
    if colon and password:
        yield from (password, unquote(password))
    for option in query.split("&"):
        name, _, value = option.partition("=")
        if name.lower().endswith("password") and value:
            yield value
            yield from (plain for _, plain in parse_qsl(option))


def _address(text: str) -> tuple[str, int]:
    if "[" in text or text.count(":") < 2:
        try:
            parts = urlsplit(f"//{text}")
            if parts.hostname and parts.netloc == text and "@" not in text:
                return parts.hostname, SENTINEL_PORT if parts.port is None else parts.port
        except ValueError:
            pass
    raise ValueError("must name its sentinels as host:port,host:port")


def _split(url: str) -> tuple[str, str, str, str]:
    """Return scheme, authority, path and query; `urlsplit` refuses several hosts of which one is IPv6."""
    scheme, _, rest = url.partition("://")
    rest, _, _ = rest.partition("#")
    rest, _, query = rest.partition("?")
    authority, slash, path = rest.partition("/")
    return scheme.lower(), authority, slash + path, query


def _joined(scheme: str, authority: str, path: str, query: str) -> str:
    return f"{scheme}://{authority}{path}{'?' if query else ''}{query}"

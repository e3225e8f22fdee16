"""Parsers of addresses in settings: URLs, hosts, origins, extensions and recordings."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

from common.net import redis_url as redis_urls
from common.settings import extensions
from common.settings.recordings import BUILTIN, NONE
from common.settings.values import OFF_WORDS, parse_json, text, word

_PORT_OF: Final = {"http": 80, "https": 443}


def http_url(value: object) -> object:
    """Accept the URL of an HTTP service."""
    url = _split_url(value)
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise ValueError("must be a URL with http or https")
    return value


def base_url(value: object) -> object:
    """Accept the address of a Realtime API, without query, fragment and user."""
    url = _split_url(value)
    if url.scheme not in {"ws", "wss", "http", "https"} or not url.hostname:
        raise ValueError("must be a URL with ws, wss, http or https, such as wss://api.openai.com/v1/realtime")
    if url.query or url.fragment or url.username is not None:
        raise ValueError("must be a URL without query, fragment and user: set the model as OPENAI_MODEL")
    return value


def ami_url(value: object) -> object:
    """Accept the address of avr-ami, and return it without a trailing slash."""
    return str(http_url(value)).rstrip("/")


def proxy_url(value: object) -> object:
    """Accept an HTTP proxy: `http://host:port`, with or without the scheme and a user."""
    if value is None:
        return None
    # curl also accepts a name with a port.
    text = str(value) if "://" in str(value) else f"http://{value}"
    url = _split_url(text)
    if url.scheme != "http" or not url.hostname or url.path not in {"", "/"} or url.query:
        raise ValueError("must be http://host:port or http://user:password@host:port")
    return text.rstrip("/")


def redis_url(value: object) -> object:
    """Accept the URL of a Redis server, or of sentinels."""
    if value is None:
        return None
    if redis_urls.is_of_sentinels(str(word(value))):
        redis_urls.parse_sentinels(str(value))
        return value
    url = _split_url(value)
    if not (url.scheme in {"redis", "rediss"} and url.hostname) and not (url.scheme == "unix" and url.path):
        raise ValueError(f"must be {redis_urls.FORMS}")
    return value


def host_address(value: object) -> object:
    """Accept a host name or an IP address without a port."""
    if value is None:
        return None
    if str(value).count(":") == 1 or not re.fullmatch(r"[\w.:-]+", str(value)):
        raise ValueError("must be a host name or an address without a port: set the port as WORKER_PORT")
    return value


def origins(value: object) -> object:
    """Accept origins of web pages: a JSON list, or text separated by commas or spaces.

    Browsers write an origin in lower case and without the scheme's own port (RFC 6454, section 6.2).
    """
    listed = parse_json(value) if str(value).startswith("[") else str(value).replace(",", " ").split()
    return [_origin(each) for each in listed] if isinstance(listed, list) else [_origin(listed)]


def _origin(value: object) -> str:
    try:
        url = _split_url(value)
        text = f"{url.scheme}://{url.netloc}"
        if url.scheme not in _PORT_OF or not url.hostname or url.username is not None:
            raise ValueError
        if str(value).lower().removesuffix("/") != text.lower():
            raise ValueError
    except ValueError:
        raise ValueError("must be origins of web pages, such as https://phone.example:8443") from None
    return text.lower().removesuffix(f":{_PORT_OF[url.scheme]}")


def extension(value: object) -> object:
    """Accept `exten` or `exten@context`."""
    extensions.split(str(value))
    return value


def dialplan_context(value: object) -> object:
    """Accept the name of a dialplan context."""
    if not extensions.CONTEXT.fullmatch(str(value)):
        raise ValueError("must be the name of a dialplan context: letters, digits, _ and -")
    return value


def transfer_allowed(value: object) -> object:
    """Accept entries such as `internal`, `600@sales` or `_00X.@out`, separated by commas or as a JSON list.

    `none` gives no entry: no transfer is allowed.
    """
    if value is None:
        return None
    if str(value).lower() == NONE:
        return []
    given = value
    if isinstance(value, str):
        given = parse_json(value) if value.startswith("[") else value.split(",")
    written = [str(each).strip() for each in given] if isinstance(given, list) else [str(given)]
    entries = [each for each in written if each]
    if not 1 <= len(entries) <= extensions.MAX_ALLOWED:
        raise ValueError(f"must be none, or 1 to {extensions.MAX_ALLOWED} entries separated by commas")
    return [extensions.allowed_entry(each) for each in entries]


def recording(value: object) -> object:
    """Accept `none`, `builtin`, or the path of a file, which is read later."""
    chosen = str(text(value))
    if chosen.lower() in OFF_WORDS:
        return NONE
    return BUILTIN if chosen.lower() == BUILTIN else chosen


def _split_url(value: object) -> SplitResult:
    word(value)
    try:
        url = urlsplit(str(value))
        _ = url.port  # parsed only now, and may raise
    except ValueError:
        raise ValueError("must be a URL") from None
    return url

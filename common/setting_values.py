"""How people write the values of settings, and what is made of them.

Each parser takes what stands in the environment (or the value itself, given as an argument) and raises ValueError
with what is allowed. The values come without the space and quotes around them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Annotated, Final, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import BeforeValidator, SecretStr

DEFAULT_MODEL: Final = "gpt-realtime-2"

VOICES: Final = ("alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar")


def whole_number(low: int, high: int) -> BeforeValidator:
    """Takes `low` to `high`, both included."""

    def parse(value: object) -> object:
        try:
            parsed = int(value) if isinstance(value, (int, str)) else None
        except ValueError:
            parsed = None
        if parsed is None or not low <= parsed <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return parsed

    return BeforeValidator(parse)


def number(low: float, high: float) -> BeforeValidator:
    """Takes `low` to `high`, both included, with or without decimals; never NaN."""

    def parse(value: object) -> object:
        try:
            parsed = float(value) if isinstance(value, (int, float, str)) else math.nan
        except ValueError:
            parsed = math.nan
        if not low <= parsed <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}")
        return parsed

    return BeforeValidator(parse)


def one_of(choices: Iterable[str]) -> BeforeValidator:
    """Takes one of `choices`, which are in lower case, in any case."""
    allowed = tuple(choices)

    def parse(value: object) -> object:
        if str(value).lower() not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return str(value).lower()

    return BeforeValidator(parse)


def _parse_max_tokens(value: object) -> object:
    if str(value).lower() == "inf":
        return "inf"
    if not str(value).isdecimal() or not 1 <= int(str(value)) <= 4096:
        raise ValueError("must be a whole number from 1 to 4096, or inf")
    return int(str(value))


def _parse_language(value: object) -> object:
    if value is None or str(value).lower() in {"", "auto"}:
        return None
    if not re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*", str(value)):
        raise ValueError("must be a language code such as en or it, or auto")
    return value


def _parse_voice(value: object) -> object:
    if str(value).lower() in VOICES:
        return str(value).lower()
    if not re.fullmatch(r"voice_\S+", str(value)):
        raise ValueError(f"must be one of {', '.join(VOICES)}, or the id of a custom voice (voice_...)")
    return value


def _parse_model(value: object) -> object:
    if "-realtime-preview" in str(value).lower():
        raise ValueError(f"speaks the beta dialect, which this release does not: use {DEFAULT_MODEL}")
    return _parse_word(value)


def _parse_word(value: object) -> object:
    if not re.fullmatch(r"[!-~]+", str(value)):
        raise ValueError("must be one word of plain characters")
    return value


def _parse_api_key(value: object) -> object:
    key = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    if not re.fullmatch(r"[!-~]*", key):
        raise ValueError("has spaces, line breaks or characters that no key has")
    return value


def _parse_instructions(value: object) -> object:
    # Compose files and docker's --env-file cannot hold a line break: people write the two characters.
    return str(value).replace("\\n", "\n")


def _split_url(value: object) -> SplitResult:
    _parse_word(value)
    try:
        url = urlsplit(str(value))
        _ = url.port  # parsed only now, and may raise
    except ValueError:
        raise ValueError("must be a URL") from None
    return url


def _parse_base_url(value: object) -> object:
    url = _split_url(value)
    if url.scheme not in {"ws", "wss", "http", "https"} or not url.hostname:
        raise ValueError("must be a URL with ws, wss, http or https, such as wss://api.openai.com/v1/realtime")
    if url.query or url.fragment or url.username is not None:
        raise ValueError("must be a URL without query, fragment and user: the model is OPENAI_MODEL's")
    return value


def _parse_redis_url(value: object) -> object:
    if value is None:
        return None
    url = _split_url(value)
    if not (url.scheme in {"redis", "rediss"} and url.hostname) and not (url.scheme == "unix" and url.path):
        raise ValueError("must be redis://host:port/db, rediss://host:port/db or unix:///path")
    return value


def _parse_address(value: object) -> object:
    if value is None:
        return None
    if str(value).count(":") == 1 or not re.fullmatch(r"[\w.:-]+", str(value)):
        raise ValueError("must be a host name or an address without a port: that is WORKER_PORT's")
    return value


Port = Annotated[int, whole_number(0, 65_535)]
Milliseconds = Annotated[int, whole_number(0, 60_000)]
MaxTokens = Annotated[int | Literal["inf"], BeforeValidator(_parse_max_tokens)]
Language = Annotated[str | None, BeforeValidator(_parse_language)]
Voice = Annotated[str, BeforeValidator(_parse_voice)]
Model = Annotated[str, BeforeValidator(_parse_model)]
Word = Annotated[str, BeforeValidator(_parse_word)]
ApiKey = Annotated[SecretStr, BeforeValidator(_parse_api_key)]
Instructions = Annotated[str, BeforeValidator(_parse_instructions)]
BaseUrl = Annotated[str, BeforeValidator(_parse_base_url)]
RedisUrl = Annotated[str | None, BeforeValidator(_parse_redis_url)]
Address = Annotated[str | None, BeforeValidator(_parse_address)]

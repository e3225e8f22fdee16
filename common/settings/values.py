"""Parsers of the values of settings, as people write them.

Each parser takes the text in the environment, or the value itself as an argument or from JSON. It returns the
value as the service uses it, or raises ValueError with the allowed values. Space and quotes around a value in the
environment have been removed before.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import Final

import orjson
from pydantic import SecretStr

from common.errors import LocalError
from common.net import json_depth
from common.settings.nearest import nearest_number, nearest_word

Parser = Callable[[object], object]
MIN_TOKEN_CHARACTERS: Final = 16
OFF_WORDS: Final = frozenset({"", "off", "none", "null", "false"})
_ON: Final = frozenset({"true", "1", "yes", "on"})
_NOT: Final = frozenset({"false", "0", "no", "off"})
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class NotAllowed(LocalError, ValueError):
    """A wrong value, with the right value that is nearest to it; None: no value is near."""

    def __init__(self, allowed: str, nearest: object = None) -> None:
        super().__init__(allowed)
        self.nearest = nearest


def whole_number(low: int, high: int) -> Parser:
    """Accept whole numbers from `low` to `high`, both included."""

    def parse(value: object) -> object:
        try:
            parsed = int(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else None
        except ValueError:
            parsed = None
        if parsed is None or not low <= parsed <= high:
            near = nearest_number(value, low, high)
            raise NotAllowed(f"must be a whole number from {low} to {high}", None if near is None else round(near))
        return parsed

    return parse


def number(low: float, high: float) -> Parser:
    """Accept numbers from `low` to `high`, both included, with or without decimals; never NaN."""

    def parse(value: object) -> object:
        try:
            accepted = isinstance(value, (int, float, str)) and not isinstance(value, bool)
            parsed = float(value) if accepted else math.nan  # type: ignore[arg-type]  # narrowed by `accepted`
        except (ValueError, OverflowError):
            parsed = math.nan
        if not low <= parsed <= high:
            raise NotAllowed(f"must be a number from {low:g} to {high:g}", nearest_number(value, low, high))
        return parsed

    return parse


def one_of(choices: Iterable[str]) -> Parser:
    """Accept one of `choices`, which are in lower case, in any case."""
    allowed = tuple(choices)

    def parse(value: object) -> object:
        if str(value).lower() not in allowed:
            raise NotAllowed(f"must be one of {', '.join(allowed)}", nearest_word(value, allowed))
        return str(value).lower()

    return parse


def unless_off(parser: Parser, *also: str) -> Parser:
    """Accept all that `parser` accepts; `off`, `none`, `null`, `false` and the words of `also` mean not set."""
    off = OFF_WORDS | set(also)

    def parse(value: object) -> object:
        return None if value is None or str(value).lower() in off else parser(value)

    return parse


def or_word(word: str, parser: Parser) -> Parser:
    """Accept one word, in any case, and all that `parser` accepts."""

    def parse(value: object) -> object:
        if str(value).lower() == word:
            return word
        try:
            return parser(value)
        except NotAllowed as error:
            raise NotAllowed(f"{error}, or {word}", error.nearest) from None

    return parse


def boolean(value: object) -> object:
    """Accept true or false, in the forms that people write."""
    if str(value).lower() not in _ON | _NOT:
        raise ValueError("must be true or false")
    return str(value).lower() in _ON


def text(value: object) -> object:
    """Accept text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be text, and not empty")
    return value


def word(value: object) -> object:
    """Accept one word of plain characters."""
    if not isinstance(value, str) or not re.fullmatch(r"[!-~]+", value):
        raise ValueError("must be one word of plain characters")
    return value


def json_object(value: object) -> object:
    """Accept a JSON object."""
    parsed = parse_json(value)
    if not isinstance(parsed, dict):
        raise ValueError("must be a JSON object")
    return parsed


def json_list(element: Parser) -> Parser:
    """Accept a JSON list whose elements `element` accepts."""

    def parse(value: object) -> object:
        parsed = parse_json(value)
        if not isinstance(parsed, list):
            raise ValueError("must be a JSON list")
        try:
            return [element(each) for each in parsed]
        except ValueError as error:
            raise ValueError(f"has an element that is wrong: it {error}") from None

    return parse


def variable_names(value: object) -> object:
    """Accept names of environment variables, separated by commas or spaces, or as a JSON list."""
    names = value
    if isinstance(value, str):
        names = parse_json(value) if value.startswith("[") else re.split(r"[\s,]+", value.strip(", "))
    if not isinstance(names, list) or not all(
        isinstance(each, str) and _VARIABLE.fullmatch(each) for each in names
    ):
        raise ValueError("must be names of variables, with commas between them")
    return names


def names(value: object) -> object:
    """Accept names separated by commas, or as a JSON list; empty: none."""
    found = value
    if isinstance(value, str):
        found = parse_json(value) if value.startswith("[") else [each.strip() for each in value.split(",")]
    if not isinstance(found, list) or not all(isinstance(each, str) and len(each) <= 64 for each in found):
        raise ValueError("must be names of at most 64 characters, with commas between them")
    return [each for each in found if each]


def prose(value: object) -> object:
    """Accept text of several lines, whose line breaks may be written as `\\n`."""
    # Compose files and docker's --env-file cannot hold a line break, so people write two characters for it.
    return None if value is None else str(value).replace("\\n", "\n")


def api_key(value: object) -> object:
    """Accept an API key; as an argument also a `SecretStr`."""
    key = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(key, str) or not re.fullmatch(r"[!-~]*", key):
        raise ValueError("has spaces, line breaks or characters that no key has")
    return value


def password(value: object) -> object:
    """Accept a password of another service, with any characters but line breaks and other control characters."""
    if value is None:
        return None
    written = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(written, str) or not written or re.search(r"[\x00-\x1f\x7f]", written):
        raise ValueError("must be text without line breaks and other control characters")
    return value


def token(value: object) -> object:
    """Accept a token that is hard to guess; as an argument also a `SecretStr`."""
    if value is None:
        return None
    written = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(written, str) or not re.fullmatch(r"[!-~]*", written):
        raise ValueError("has spaces, line breaks or characters beyond ASCII: let `openssl rand -hex 32` make one")
    if len(written) < MIN_TOKEN_CHARACTERS:
        raise ValueError(
            f"is shorter than {MIN_TOKEN_CHARACTERS} characters, and may be guessed: "
            "let `openssl rand -hex 32` make one"
        )
    return value


def parse_json(value: object) -> object:
    """Parse JSON text; return any other value unchanged.

    Raises:
        ValueError: the text is not JSON.
    """
    if not isinstance(value, str):
        return value
    try:
        return json_depth.read(value)
    except orjson.JSONDecodeError:
        pass
    try:
        # In Compose's list form people escape the quotes, as for a shell.
        return json_depth.read(value.replace('\\"', '"'))
    except orjson.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg} at character {error.pos + 1}") from None

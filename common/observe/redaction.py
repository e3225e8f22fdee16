"""Texts that must never be shown: fields whose names mark secrets, secrets inside text, and known secrets.

A process registers its own secrets once (`know`), and a call's secrets with the call (`CallSecrets`). Only text is
searched for them: log lines, answers, error messages, and data for Redis; never audio.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlsplit

REDACTED = "***"

MIN_SECRET_CHARACTERS: Final = 8
"""Minimum length of a secret that is searched for: a shorter one may be part of a word."""

NO_CALL: Final = "-"
"""Stands for a uuid with long text of no call: only secrets of the process are searched for."""

MAX_CALL_SECRETS: Final = 32
"""Maximum number of secrets of one call: a stranger's `init` of 62 KB may bring thousands."""

MAX_ENDED_CALLS: Final = 256
"""Number of ended calls whose secrets are still searched for, because their tasks may log later."""

T = TypeVar("T")

_SECRET_NAME = re.compile(r"(?:^|[_-])(?:api[_-]?key|authorization|cookie|password|secret|token)$", re.IGNORECASE)

_SECRET_TEXT = re.compile(
    r"""
    \bsk-[\w*-]{4,}                 # an OpenAI key, also as OpenAI's own errors shorten it (sk-ab***yz)
    | (?<=\bBearer\ )[^\s"',]+      # Authorization: Bearer ...
    | (?<=://)[^/@\s]+(?=@)         # scheme://user:password@host
    | ([?&][\w-]*(?i:key|token|secret|password)=)[^&\s"']+  # ?token= of a URL
    """,
    re.VERBOSE,
)
_QUERY_SECRET = re.compile(r"(?:key|token|secret|password)$", re.IGNORECASE)
# Authorization: SCHEME CREDENTIALS
_SCHEME = re.compile(r"[A-Za-z][\w-]{1,15} +(?=\S)")
# Headers of MCP servers whose values are not secret, and occur in many other texts.
_PLAIN_HEADERS = frozenset({"accept", "content-type", "user-agent"})
_URL_FIELDS = frozenset({"server_url"})


def is_secret_name(name: str) -> bool:
    """Return whether a field of this name holds a secret (`api_key`, `X-Token`; not `max_tokens`)."""
    return _SECRET_NAME.search(name) is not None


def secrets_in(value: object, name: str = "") -> Iterator[str]:
    """Yield the secrets in a JSON value: texts of fields with such names, headers, and passwords in URLs."""
    waiting: list[tuple[str, object]] = [(name, value)]
    while waiting:
        field, each = waiting.pop()
        if isinstance(each, Mapping):
            if field == "headers":
                yield from (
                    text
                    for header, text in each.items()
                    if isinstance(text, str) and header.lower() not in _PLAIN_HEADERS
                )
                continue
            waiting += [(str(key), inner) for key, inner in each.items()]
        elif isinstance(each, (list, tuple)):
            waiting += [(field, inner) for inner in each]
        elif isinstance(each, str) and is_secret_name(field):
            yield each
        elif isinstance(each, str) and field in _URL_FIELDS:
            yield from secrets_in_url(each)


def secrets_in_url(url: str) -> Iterator[str]:
    """Yield the password of a URL, and its parameters whose names mark secrets."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return
    if parts.password:
        yield from (parts.password, unquote(parts.password))
    elif parts.username and parts.scheme.startswith("http"):
        yield from (parts.username, unquote(parts.username))
    yield from (value for name, value in parse_qsl(parts.query) if _QUERY_SECRET.search(name))


class KnownSecrets:
    """The secrets of one process and of its calls."""

    def __init__(self) -> None:
        self._of_owner: dict[str, tuple[str, ...]] = {}
        self._of_call: dict[str, list[CallSecrets]] = {}
        self._ended: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        self._process: tuple[str, ...] = ()
        # By uuid; "" for text that belongs to no call.
        self._found: dict[str, tuple[str, ...]] = {}

    def know(self, owner: str, secrets: Iterable[str]) -> None:
        """Search for these secrets from now on, in place of the owner's former ones.

        Args:
            owner: part of the process that has the secrets, such as `settings`.
            secrets: all of them, including expired ones that may still appear.
        """
        self._of_owner[owner] = _variants(secrets)
        self._process = _longest_first(self._of_owner.values())
        self._found.clear()

    def of(self, uuid: str) -> tuple[str, ...]:
        """Return the secrets to search for in text of a call, the longest first; "": in any other text."""
        if uuid and uuid not in self._of_call and uuid not in self._ended:
            return self._process
        found = self._found.get(uuid)
        if found is None:
            uuids = [uuid] if uuid else [*self._of_call, *self._ended]
            found = _longest_first([self._process, *(self._of_one(each) for each in uuids)])
            self._found[uuid] = found
        return found

    def _of_one(self, uuid: str) -> tuple[str, ...]:
        live = self._of_call.get(uuid, ())
        return _longest_first([*(each.secrets for each in live), self._ended.get(uuid, ())])

    def _changed(self, call: CallSecrets) -> None:
        live = self._of_call.setdefault(call.uuid, [])
        if call not in live:
            live.append(call)
        self._forget_found(call.uuid)

    def _closed(self, call: CallSecrets) -> None:
        live = self._of_call.get(call.uuid, [])
        if call not in live:
            return
        live.remove(call)
        if not live:
            del self._of_call[call.uuid]
        self._ended[call.uuid] = _longest_first([self._ended.pop(call.uuid, ()), call.secrets])
        while len(self._ended) > MAX_ENDED_CALLS:
            self._found.pop(self._ended.popitem(last=False)[0], None)
        self._forget_found(call.uuid)

    def _forget_found(self, uuid: str) -> None:
        self._found.pop(uuid, None)
        self._found.pop("", None)


KNOWN: Final = KnownSecrets()


class CallSecrets:
    """The secrets of one call, as long as a part of the process has the call.

    Attributes:
        uuid: of the call.
        secrets: the secrets that are searched for.
    """

    def __init__(self, uuid: str, known: KnownSecrets = KNOWN) -> None:
        self.uuid = uuid
        self.secrets: tuple[str, ...] = ()
        self._known = known
        self._given: dict[str, None] = {}

    def keep(self, secrets: Iterable[str]) -> None:
        """Search for these secrets, too. Beyond `MAX_CALL_SECRETS` the first ones stay."""
        new = [each for each in secrets if len(each) >= MIN_SECRET_CHARACTERS and each not in self._given]
        room = MAX_CALL_SECRETS - len(self._given)
        if new and room > 0:
            self._given |= dict.fromkeys(new[:room])
            self.secrets = _variants(self._given)
            self._known._changed(self)

    def close(self) -> None:
        """End the call; its latest secrets are still searched for."""
        self._known._closed(self)


def know(owner: str, secrets: Iterable[str]) -> None:
    """Search for secrets of this process: see `KnownSecrets.know`."""
    KNOWN.know(owner, secrets)


def without_known(text: str, uuid: str = "") -> str:
    """Return `text` without the secrets of the process and of a call; without a uuid, of all calls."""
    for secret in KNOWN.of(uuid):
        if secret in text:
            text = text.replace(secret, REDACTED)
    return text


def all_without_known(value: T, uuid: str = "") -> T:
    """Return a JSON value with `without_known` applied to every text in it; names of fields stay."""
    secrets = KNOWN.of(uuid)
    if not secrets:
        return value
    made: Any = value
    if isinstance(made, str):
        made = without_known(made, uuid)
    elif isinstance(made, dict):
        made = {name: all_without_known(each, uuid) for name, each in made.items()}
    elif isinstance(made, (list, tuple)):
        made = [all_without_known(each, uuid) for each in made]
    return made  # type: ignore[no-any-return]  # of the type that was given


def holds_known(text: str) -> bool:
    """Return whether `text` holds a known secret, in any case."""
    folded = text.casefold()
    return any(secret.casefold() in folded for secret in KNOWN.of(""))


def redact(text: str, uuid: str = "") -> str:
    """Return `text` without known secrets, and without all parts that look like secrets."""
    return _SECRET_TEXT.sub(lambda found: (found[1] or "") + REDACTED, without_known(text, uuid))


def _variants(secrets: Iterable[str]) -> tuple[str, ...]:
    """Return the forms in which secrets may be written: plain, behind a scheme, escaped in JSON or in a URL."""
    made: dict[str, None] = {}
    for secret in secrets:
        for part in (secret, _SCHEME.sub("", secret, count=1) if _SCHEME.match(secret) else secret):
            if len(part) < MIN_SECRET_CHARACTERS:
                continue
            made |= dict.fromkeys(
                (part, json.dumps(part)[1:-1], json.dumps(part, ensure_ascii=False)[1:-1], quote(part, safe=""))
            )
    return _longest_first([made])


def _longest_first(groups: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """Return each secret once, the longest first, because a short one may be part of a long one."""
    distinct = {secret for group in groups for secret in group}
    return tuple(sorted(distinct, key=lambda secret: (-len(secret), secret)))

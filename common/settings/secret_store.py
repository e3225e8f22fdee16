"""The secrets of a process as they are now: they can be replaced while it runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from common.net.tokens import Token
from common.settings.fields import SECRETS
from common.settings.settings import Settings

MAX_FORMER: Final = 4
"""Settings before those of now whose secrets are still looked for in what is shown."""

_TOKENS: Final = ("sts_token", "admin_token", "cluster_token")


@dataclass(frozen=True, slots=True)
class Replacement:
    """What has come of settings that were read again.

    Attributes:
        changed: variables of secrets that were replaced.
        need_restart: variables of settings that differ, and stay as they were.
    """

    changed: tuple[str, ...]
    need_restart: tuple[str, ...]


class Secrets:
    """The secrets of one process.

    Attributes:
        settings: those of the start, with the secrets of now.
        sts_token: what AVR Core has to bring; None: nothing.
        admin_token: what the calls API asks for; None: nothing.
        cluster_token: what dispatchers and workers prove to each other; None: nothing.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.sts_token = _token(settings, "sts_token")
        self.admin_token = _token(settings, "admin_token")
        self.cluster_token = _token(settings, "cluster_token")
        self._former: deque[frozenset[str]] = deque(maxlen=MAX_FORMER)

    @property
    def seen(self) -> frozenset[str]:
        """All secrets of now, and of the latest settings before: a peer may still quote them."""
        return self.settings.secrets.union(*self._former)

    def replace(self, fresh: Settings) -> Replacement:
        """Takes over the secrets of `fresh`; everything else stays as it is.

        A token that was set or unset opens or closes a door, and takes a restart.
        """
        before = self.settings
        differ = [name for name in type(before).model_fields if getattr(fresh, name) != getattr(before, name)]
        changed = [name for name in differ if name in SECRETS and _can_be_replaced(name, before, fresh)]
        self._former.append(before.secrets)
        self.settings = before.model_copy(update={name: getattr(fresh, name) for name in changed})
        for name in changed:
            if name in _TOKENS:
                getattr(self, name).replace(getattr(fresh, name))
        return Replacement(_variables(changed), _variables(name for name in differ if name not in changed))


def _token(settings: Settings, name: str) -> Token | None:
    value = getattr(settings, name)
    return None if value is None else Token(value)


def _variables(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name.upper() for name in names)


def _can_be_replaced(name: str, before: Settings, fresh: Settings) -> bool:
    if name in _TOKENS:
        return getattr(before, name) is not None and getattr(fresh, name) is not None
    if name == "redis_url":
        return _without_account(before.redis_url) == _without_account(fresh.redis_url)
    return True


def _without_account(url: str | None) -> tuple[str, ...]:
    """A Redis's address, which the process stays with, without user and password."""
    parts = urlsplit(url or "")
    return (parts.scheme, parts.netloc.rpartition("@")[2], parts.path, parts.query)

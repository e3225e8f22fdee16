"""The current secrets of a process, which can be replaced while it runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from common.net.redis_url import without_account
from common.net.tokens import Token
from common.settings.fields import SECRETS
from common.settings.settings import Settings

MAX_FORMER: Final = 4
"""Number of former settings whose secrets are still hidden in texts."""

_TOKENS: Final = ("sts_token", "admin_token", "cluster_token")


@dataclass(frozen=True, slots=True)
class Replacement:
    """The result of reloaded settings.

    Attributes:
        changed: variables of replaced secrets.
        need_restart: variables of settings that differ, and keep their old values until a restart.
    """

    changed: tuple[str, ...]
    need_restart: tuple[str, ...]


class Secrets:
    """The secrets of one process.

    Attributes:
        settings: the settings of the start, with the current secrets.
        sts_token: the token that AVR Core must send; None: no token is needed.
        admin_token: the token for the calls API; None: no token is needed.
        cluster_token: the token that dispatchers and workers prove to each other; None: no token is needed.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.sts_token = _token(settings, "sts_token")
        self.admin_token = _token(settings, "admin_token")
        self.cluster_token = _token(settings, "cluster_token")
        self._former: deque[frozenset[str]] = deque(maxlen=MAX_FORMER)

    @property
    def seen(self) -> frozenset[str]:
        """All current secrets, and those of the latest former settings, which a peer may still quote."""
        return self.settings.secrets.union(*self._former)

    def replace(self, fresh: Settings) -> Replacement:
        """Replace the secrets with those of `fresh`; all other settings stay.

        A token that was set or unset opens or closes a port, and needs a restart.
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
    if name.endswith("redis_url"):
        # The address of a Redis cannot change during a run.
        return without_account(getattr(before, name) or "") == without_account(getattr(fresh, name) or "")
    # A secret that was set or unset turns the webhook's signatures on or off.
    return name != "call_records_secret" or None not in (before.call_records_secret, fresh.call_records_secret)

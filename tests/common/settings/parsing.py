"""Settings from the variables that a test names, beside those that a start needs."""

from __future__ import annotations

from typing import Final

import pytest

from common.errors import SettingsError
from common.settings.roles import Role
from common.settings.settings import Settings

NEEDED: Final = {"OPENAI_API_KEY": "sk-proj-0123456789abcdef", "REDIS_URL": "redis://127.0.0.1:6379/0"}


def parse(role: Role = Role.SERVE, /, **variables: str) -> Settings:
    """Return the settings with which a process of `role` starts."""
    return Settings.parse(NEEDED | variables, role)


def refusal(role: Role = Role.SERVE, /, **variables: str) -> str:
    """Return why a process of `role` does not start."""
    with pytest.raises(SettingsError) as caught:
        parse(role, **variables)
    return str(caught.value)

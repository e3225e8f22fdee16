"""The roles of processes, and the settings that each role needs."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """What a process is, which decides the settings it needs."""

    SERVE = "serve"
    DISPATCHER = "dispatcher"
    WORKER = "worker"


DEFAULT_DRAIN_SECONDS: Final = {Role.SERVE: 8.0, Role.DISPATCHER: 3600.0, Role.WORKER: 30.0}

NEEDED: Final = {
    Role.SERVE: ("openai_api_key",),
    Role.DISPATCHER: ("redis_url",),
    Role.WORKER: ("openai_api_key", "redis_url"),
}

HOW_TO_SET: Final = {
    "openai_api_key": "set it to a key of your OpenAI account (https://platform.openai.com/api-keys)",
    "redis_url": "set it to the Redis that all dispatchers and workers share, such as redis://redis:6379/0",
}

"""The checks of a worker."""

from __future__ import annotations

from common.check.check import Check
from common.settings.settings import Settings
from worker.check import prompt, realtime_api, tools


def checks(settings: Settings) -> list[Check]:
    """Return the checks of a worker with these settings."""
    return [realtime_api.check(settings), *prompt.checks(settings), tools.check(settings)]

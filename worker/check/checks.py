"""The checks of a worker."""

from __future__ import annotations

from common.check.check import Check
from common.settings.settings import Settings
from worker.check import prompt, realtime_api, session, tools
from worker.check.loaded_tools import LoadedTools


def checks(settings: Settings, seconds: float) -> list[Check]:
    """Return the checks of a worker with these settings; each question to the API has this time."""
    loaded = LoadedTools(settings)
    return [
        realtime_api.check(settings),
        session.check(settings, loaded, seconds),
        *prompt.checks(settings),
        tools.check(settings, loaded),
    ]

"""The check of the limit of open files: how many calls a process can hold."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from typing import Final

from common.check.check import Check
from common.check.finding import Finding, State
from common.runtime.process import OPEN_FILES
from common.settings.roles import Role
from common.settings.settings import Settings

NAME: Final = "open files"

RESERVE: Final = 200
"""Open files of a process without calls, with room for links, Redis, metrics and requests to ADMIN_PORT."""


def check(settings: Settings, role: Role) -> Check:
    """Return the check."""

    async def look() -> Sequence[Finding]:
        return [_look(settings, role, _limit())]

    return Check(NAME, str(_limit()), look)


def _limit() -> int:
    """Return the limit that a process gives itself: see `common.runtime.process`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY in (soft, hard):
        return OPEN_FILES
    return max(soft, min(OPEN_FILES, hard))


def _look(settings: Settings, role: Role, limit: int) -> Finding:
    possible = max(0, limit - RESERVE)
    wanted = _wanted(settings, role)
    what = f"enough for {possible} calls in each process"
    if possible >= wanted:
        return Finding(NAME, State.OK, str(limit), what)
    todo = f"raise the hard limit (ulimit -Hn, LimitNOFILE) to {wanted + RESERVE}"
    return Finding(NAME, State.WARN, str(limit), f"{what}, and up to {wanted} may come", todo)


def _wanted(settings: Settings, role: Role) -> int:
    """Return the number of calls that one process may have; each is one open file of it."""
    if role is Role.SERVE:
        return max(settings.worker_max_calls, settings.workers * settings.worker_max_calls // settings.dispatchers)
    return settings.worker_max_calls

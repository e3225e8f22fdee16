"""The check of the limit of open files, which each process raises to its hard limit."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

from common.check import open_files
from common.check.finding import Finding, State
from common.runtime.process import OPEN_FILES
from common.settings.roles import Role
from common.settings.settings import Settings

_PROBE = """
import asyncio, resource
from common.check import open_files
from common.settings.roles import Role
from common.settings.settings import Settings
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 1024))
settings = Settings.parse({"OPENAI_API_KEY": "k", "WORKERS": "1", "WORKER_MAX_CALLS": "1500"}, Role.SERVE)
(found,) = asyncio.run(open_files.check(settings, Role.SERVE).run(10))
print(found.state, found.value, found.what, found.todo, sep="|")
"""


async def look(role: Role, **variables: str) -> Finding:
    settings = Settings.parse({"OPENAI_API_KEY": "k", "REDIS_URL": "redis://h", **variables}, role)
    (found,) = await open_files.check(settings, role).run(10)
    return found


def test_low_hard_limit_says_how_many_calls_fit_and_what_to_set() -> None:
    """A process of its own: a hard limit cannot be raised again."""
    ran = subprocess.run(
        [sys.executable, "-P", "-c", _PROBE], env=os.environ, capture_output=True, text=True, check=True
    )
    state, value, what, todo = ran.stdout.strip().split("|")
    assert (state, value) == (State.WARN.value, "1024")
    assert "enough for 824 calls in each process, and up to 1500 may come" in what
    assert "to 1700" in todo


@pytest.mark.parametrize("role", [Role.WORKER, Role.DISPATCHER, Role.SERVE])
async def test_few_calls_fit_in_any_limit(role: Role) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = await look(role, WORKER_MAX_CALLS="1", WORKERS="1")
    unbounded = resource.RLIM_INFINITY in (soft, hard)
    limit = OPEN_FILES if unbounded else max(soft, min(OPEN_FILES, hard))
    assert (found.state, found.value) == (State.OK, str(limit))


async def test_dispatcher_of_serve_needs_a_file_for_each_call() -> None:
    one = await look(Role.SERVE, WORKERS="256", WORKER_MAX_CALLS="10000", DISPATCHERS="1")
    several = await look(Role.SERVE, WORKERS="256", WORKER_MAX_CALLS="10000", DISPATCHERS="16")
    assert "up to 2560000 may come" in one.what
    assert "up to 2560000" not in several.what

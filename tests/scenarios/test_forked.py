"""Forked dispatchers and workers behave like those that a new Python runs."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable

import psutil
import pytest

from tests.helpers import eventually
from tests.scenarios.forked import POSSIBLE
from tests.scenarios.processes import KEY, ServiceProcess

pytestmark = pytest.mark.skipif(not POSSIBLE, reason="processes are forked on Linux alone")


Start = Callable[..., Awaitable[ServiceProcess]]


@pytest.mark.parametrize("start", [ServiceProcess.start, ServiceProcess.fork])
async def test_wrong_setting_is_on_stderr_with_exit_code_78(start: Start) -> None:
    process = await start("worker", OPENAI_API_KEY=KEY, REDIS_URL="nowhere")
    assert await process.ended() == os.EX_CONFIG
    assert "REDIS_URL" in process.raw


async def test_forked_process_has_a_session_and_files_of_its_own(redis_server: str) -> None:
    settings = {"REDIS_URL": redis_server, "PORT": 0, "ADMIN_PORT": 0, "DRAIN_SECONDS": 5}
    forked = await ServiceProcess.fork("dispatcher", **settings)
    new = await ServiceProcess.start("dispatcher", **settings)
    for process in (forked, new):
        await process.line("dispatcher listening")
        assert os.getsid(process.pid) == process.pid
    # The same sockets and files: none of the process that forks. Connections to Redis come and go.
    await eventually(lambda: psutil.Process(forked.pid).num_fds() == psutil.Process(new.pid).num_fds())
    assert psutil.Process(forked.pid).cwd() == psutil.Process(new.pid).cwd()
    assert await forked.stop() == await new.stop() == 0


async def test_killed_forked_process_has_its_signal_as_exit_code(redis_server: str) -> None:
    process = await ServiceProcess.fork("dispatcher", REDIS_URL=redis_server, PORT=0, ADMIN_PORT=0)
    await process.line("dispatcher listening")
    await process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not psutil.pid_exists(process.pid)

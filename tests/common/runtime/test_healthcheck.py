from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest

from common.net.ports import listen_socket, port_of
from common.observe import admin
from common.runtime.healthcheck import admin_port


def run_program(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def check(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return run_program("-m", "common.runtime.cli", "healthcheck", *arguments, **variables)


@pytest.mark.parametrize(
    ("environment", "port"),
    [({}, 9090), ({"ADMIN_PORT": "9191"}, 9191), ({"ADMIN_PORT": '"9191"'}, 9191), ({"ADMIN_PORT": ""}, 9090)],
)
def test_the_health_check_asks_the_admin_port(environment: dict[str, str], port: int) -> None:
    assert admin_port(environment) == port


@pytest.mark.parametrize(("arguments", "code"), [([], 0), (["/livez"], 0), (["/readyz"], 1)])
async def test_exit_code_tells_what_the_service_answers(arguments: list[str], code: int) -> None:
    sock = listen_socket("127.0.0.1", 0, variable="ADMIN_PORT")
    runner = await admin.serve(admin.application(lambda: False, "not yet"), sock)
    try:
        done = await asyncio.to_thread(check, *arguments, ADMIN_PORT=str(port_of(sock)))
    finally:
        await runner.cleanup()
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


def test_exit_code_is_1_if_no_service_runs() -> None:
    with listen_socket("127.0.0.1", 0, variable="ADMIN_PORT") as sock:
        port = port_of(sock)
    done = check(ADMIN_PORT=str(port))
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


def test_health_check_loads_no_more_than_it_needs() -> None:
    """It runs every 30 s for as long as a container does: what it loads costs more than what it asks."""
    program = """
import sys
from common.runtime import cli, process_exit
cli.exit_now = lambda code: None
cli.main(["healthcheck"])
print(*sorted(sys.modules))
"""
    with listen_socket("127.0.0.1", 0, variable="ADMIN_PORT") as sock:
        port = port_of(sock)
    done = run_program("-c", program, ADMIN_PORT=str(port))
    assert done.stderr == ""
    loaded = set(done.stdout.split())
    own = {name for name in loaded if name.partition(".")[0] in {"common", "dispatcher", "worker", "simulator"}}
    assert own - {"common", "common.runtime"} == {
        "common.errors",
        "common.runtime.cli",
        "common.runtime.healthcheck",
        "common.runtime.process_exit",
    }
    assert not {"pydantic", "aiohttp", "structlog", "asyncio", "importlib.metadata"} & (loaded - _at_start())


def _at_start() -> set[str]:
    """Modules that Python loads by itself here, such as those of an editable installation."""
    return {*run_program("-c", "import sys; print(*sys.modules)").stdout.split()}

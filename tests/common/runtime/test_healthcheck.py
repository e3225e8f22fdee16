from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest

from common.net.ports import listen_socket, port_of
from common.observe import admin
from common.runtime.healthcheck import admin_port, main


@pytest.mark.parametrize(
    ("environment", "port"),
    [({}, 9090), ({"ADMIN_PORT": "9191"}, 9191), ({"ADMIN_PORT": '"9191"'}, 9191), ({"ADMIN_PORT": ""}, 9090)],
)
def test_it_asks_the_admin_port(environment: dict[str, str], port: int) -> None:
    assert admin_port(environment) == port


@pytest.mark.parametrize(("arguments", "code"), [([], 0), (["/livez"], 0), (["/readyz"], 1), (["/nowhere"], 1)])
async def test_it_says_what_the_service_says(
    arguments: list[str], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sock = listen_socket("127.0.0.1", 0, variable="ADMIN_PORT")
    runner = await admin.serve(admin.application(lambda: False, "not yet"), sock)
    monkeypatch.setenv("ADMIN_PORT", str(port_of(sock)))
    try:
        assert await asyncio.to_thread(main, arguments) == code
    finally:
        await runner.cleanup()


def test_nobody_there_is_unhealthy(monkeypatch: pytest.MonkeyPatch) -> None:
    with listen_socket("127.0.0.1", 0, variable="ADMIN_PORT") as sock:
        port = port_of(sock)
    monkeypatch.setenv("ADMIN_PORT", str(port))
    assert main([]) == 1


def test_the_command_imports_nothing_of_the_service() -> None:
    program = "import sys, common.runtime.healthcheck; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", program], env=dict(os.environ), capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"pydantic", "aiohttp", "structlog"} & {*loaded}

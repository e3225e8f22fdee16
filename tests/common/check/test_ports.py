"""The check of the ports."""

from __future__ import annotations

import socket

from common.check import ports
from common.check.finding import State
from common.settings.roles import Role
from common.settings.settings import Settings


async def test_port_of_another_program_is_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        settings = Settings.parse({"REDIS_URL": "redis://h", "PORT": port, "ADMIN_PORT": "0"}, Role.DISPATCHER)
        port_check, admin_check = ports.checks(settings, Role.DISPATCHER)
        (found,) = await port_check.run(10)
        (admin,) = await admin_check.run(10)
    assert (found.state, found.value) == (State.FAIL, port)
    assert "choose another port" in found.todo
    assert admin.state is State.OK

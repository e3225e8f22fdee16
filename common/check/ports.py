"""The check of the ports: free, or taken by a running process of this service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import aiohttp

from common.check.check import Check
from common.check.finding import Finding, State
from common.errors import SettingsError
from common.net.ports import ALL_ADDRESSES, bound_socket
from common.settings.roles import Role
from common.settings.settings import Settings

_PORTS: Final = {
    Role.SERVE: ("port", "admin_port"),
    Role.DISPATCHER: ("port", "admin_port"),
    Role.WORKER: ("worker_port", "admin_port"),
}
ASK_SECONDS: Final = 2.0
MAX_BYTES: Final = 1 << 20
"""Bound of the metrics that are read to recognise this service."""

_MARK: Final = b"avr_sts_"


def checks(settings: Settings, role: Role) -> list[Check]:
    """Return a check for each port of a role."""
    return [_check(name, settings) for name in _PORTS[role]]


def _check(field: str, settings: Settings) -> Check:
    name, port = field.upper(), int(getattr(settings, field))

    async def look() -> Sequence[Finding]:
        if port == 0:
            return [Finding(name, State.OK, "0", "any free port")]
        try:
            bound_socket(ALL_ADDRESSES, port, variable=name).close()
        except SettingsError as error:
            if isinstance(error.__cause__, OSError) and await _is_ours(settings.admin_port):
                return [Finding(name, State.OK, str(port), "a running avr-sts-openai on this host has it")]
            what, _, todo = str(error).partition(": ")
            return [Finding(name, State.FAIL, str(port), what, todo)]
        return [Finding(name, State.OK, str(port), "is free")]

    return Check(name, str(port), look)


async def _is_ours(admin_port: int) -> bool:
    """Return whether a process of this service answers on ADMIN_PORT of this host."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ASK_SECONDS)) as http,
            http.get(f"http://127.0.0.1:{admin_port}/metrics") as answer,
        ):
            body = b""
            async for piece in answer.content.iter_any():
                body += piece
                if _MARK in body:
                    return True
                if len(body) > MAX_BYTES:
                    break
    except (OSError, aiohttp.ClientError):
        pass
    return False

"""The reaction to SIGHUP: secrets are reloaded from `.env` and files, without a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from common.errors import SettingsError
from common.observe import logs
from common.settings.roles import Role
from common.settings.secret_store import Secrets
from common.settings.settings import Settings

_log = logs.get_logger()


class Reload:
    """Reloads the secrets of a process on request.

    Args:
        role: of the process.
        secrets: replaced if all settings are right.
        reloaded: called after each successful reload.
    """

    def __init__(self, role: Role, secrets: Secrets, reloaded: list[Callable[[], None]]) -> None:
        self._role = role
        self._secrets = secrets
        self._reloaded = reloaded
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Request a reload; requests during a reload count as one more."""
        self._asked.set()

    async def run(self) -> None:
        """Reload on request, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            try:
                await self._read()
            except Exception:
                _log.exception("secrets not reloaded", reason="internal error")

    async def _read(self) -> None:
        try:
            # In a thread, so that a folder that hangs delays no call.
            fresh = await asyncio.to_thread(Settings.load, self._role)
        except SettingsError as error:
            _log.error("secrets not reloaded", reason="; ".join(str(error).splitlines()))
            return
        replacement = self._secrets.replace(fresh)
        _log.info("secrets reloaded", changed=replacement.changed)
        if replacement.need_restart:
            _log.warning("changed settings need a restart", settings=replacement.need_restart)
        for tell in self._reloaded:
            tell()

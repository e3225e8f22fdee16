"""SIGHUP: secrets are read again from `.env` and files, without a restart."""

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
    """Reads the secrets of a process again when it is asked to.

    Args:
        role: of the process.
        secrets: are replaced if what was read is right in all.
        reloaded: called after each reading that is right.
    """

    def __init__(self, role: Role, secrets: Secrets, reloaded: list[Callable[[], None]]) -> None:
        self._role = role
        self._secrets = secrets
        self._reloaded = reloaded
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Has the secrets read; requests that come during a reading are one more."""
        self._asked.set()

    async def run(self) -> None:
        """Reads when asked, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            try:
                await self._read()
            except Exception:
                _log.exception("secrets not read again", reason="internal error")

    async def _read(self) -> None:
        try:
            # In a thread: a folder that hangs holds up no call.
            fresh = await asyncio.to_thread(Settings.load, self._role)
        except SettingsError as error:
            _log.error("secrets not read again", reason="; ".join(str(error).splitlines()))
            return
        replacement = self._secrets.replace(fresh)
        _log.info("secrets read again", changed=replacement.changed)
        if replacement.need_restart:
            _log.warning("settings differ, and need a restart", settings=replacement.need_restart)
        for tell in self._reloaded:
            tell()

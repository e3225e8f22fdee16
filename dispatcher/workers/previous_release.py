"""Warning about workers of a release that this one does not understand."""

from __future__ import annotations

import structlog

from common.errors import RegistryUnavailable
from common.store.registry import Registry

log = structlog.get_logger()


class PreviousReleaseNotice:
    """One log line if workers of the previous release live in the same Redis, under keys of another prefix.

    Without it, a dispatcher that stands beside such workers says only that it has no worker.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._is_done = False

    async def look(self) -> None:
        """Look for such workers, until Redis has answered once."""
        if self._is_done:
            return
        try:
            workers = await self._registry.previous_workers()
        except RegistryUnavailable:
            return
        self._is_done = True
        if workers:
            log.warning(
                "workers of the previous release found",
                workers=workers,
                effect="the two releases share no workers and no calls",
                todo="drain the previous release, then switch: docs/releases.md",
            )

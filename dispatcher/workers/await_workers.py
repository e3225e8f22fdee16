"""Wait for workers of this release: the sub-command `await-workers`, which runs before a new dispatcher.

A rollout replaces workers and dispatchers at once. The chart runs this wait as an init container of dispatchers,
so that the new workers start first. It asks only Redis. The exit code is 0 as soon as a worker of this release or
of a newer one takes calls, and no worker of an older release does. Workers of another deployment on the same
Redis may stay older. After `--seconds`, one worker of this release is therefore enough; without one, the exit
code is 1.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import time
from collections.abc import Collection
from enum import Enum
from typing import Final

from common.errors import RegistryUnavailable
from common.observe import logs
from common.runtime.process import Process, run_process
from common.runtime.release import RELEASE
from common.settings.roles import Role
from common.settings.settings import Settings
from common.store.leases import WorkerState, WorkerStatus, release_order
from common.store.registry import Registry

POLL_SECONDS: Final = 1.0

log = logs.get_logger()


class Workers(Enum):
    """What the workers that take calls are, compared with a release."""

    NONE = "no worker of this release"
    MIXED = "workers of this release and of older ones"
    ALL = "workers of this release alone"


def compare(workers: Collection[WorkerStatus], release: str) -> Workers:
    """Compares the workers that are ready with `release`; newer ones count as of this one."""
    ready = [worker for worker in workers if worker.state is WorkerState.READY]
    ours = [worker for worker in ready if release_order(worker.release) >= release_order(release)]
    if not ours:
        return Workers.NONE
    return Workers.ALL if len(ours) == len(ready) else Workers.MIXED


async def wait(
    registry: Registry,
    stop: asyncio.Event,
    *,
    seconds: float,
    release: str = RELEASE,
    poll_seconds: float = POLL_SECONDS,
) -> bool:
    """Whether a dispatcher of `release` may start: see the module.

    Args:
        stop: ends the wait.
        seconds: how long workers of older releases are waited for.
    """
    deadline = time.monotonic() + seconds
    known: Workers | None = None
    while True:
        found = await _look(registry, release)
        if found is not known:
            log.info("waiting for workers", found=None if found is None else found.value, release=release)
            known = found
        if found is Workers.ALL:
            return True
        left = deadline - time.monotonic()
        if stop.is_set() or left <= 0:
            return found is Workers.MIXED and not stop.is_set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), min(poll_seconds, left))


async def _look(registry: Registry, release: str) -> Workers | None:
    """None: Redis does not answer."""
    try:
        return compare(await registry.workers(), release)
    except RegistryUnavailable as error:
        log.warning("redis is away", reason=str(error))
        return None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-command's arguments."""
    parser.add_argument("--seconds", type=float, required=True, help="how long older workers are waited for")


def run(options: argparse.Namespace) -> int:
    """Run the wait as a process of its own and return its exit code."""

    async def main(settings: Settings, process: Process) -> int:
        redis_address = settings.redis_address
        assert redis_address is not None
        registry = Registry.from_url(redis_address)
        try:
            return 0 if await wait(registry, process.draining, seconds=options.seconds) else 1
        finally:
            await registry.aclose()

    return run_process(main, Settings.load(Role.DISPATCHER), Role.DISPATCHER)

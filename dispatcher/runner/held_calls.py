"""The calls of a dispatcher that Redis is to know."""

from __future__ import annotations

from collections.abc import Iterable

from common.store.leases import CallLease
from dispatcher.runner.call_runner import CallRunner


def held(runners: Iterable[CallRunner]) -> tuple[dict[str, CallRunner], list[CallLease]]:
    """Return those of some calls that have a record in Redis, by their uuids, and these records."""
    known = {lease.uuid: (runner, lease) for runner in runners if (lease := runner.lease()) is not None}
    return {uuid: runner for uuid, (runner, _) in known.items()}, [lease for _, lease in known.values()]

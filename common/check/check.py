"""Checks, which run at the same time, each within its time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass

from common.check.finding import Finding, State

Progress = Callable[[Collection[str]], None]


@dataclass(frozen=True, slots=True)
class Check:
    """One check, which has not run yet.

    Attributes:
        name: of the check, in each of its findings.
        value: what is checked, never a secret.
        look: looks, and returns what it found.
        late: what to do if `look` does not end in time.
        seconds: time for `look`; None: the time that all checks have.
    """

    name: str
    value: str
    look: Callable[[], Awaitable[Sequence[Finding]]]
    late: str = "check the network and the firewalls on the way"
    seconds: float | None = None

    async def run(self, seconds: float) -> Sequence[Finding]:
        """Run the check within `seconds`. Does not raise: a check that fails itself is a finding, too."""
        seconds = self.seconds or seconds
        try:
            async with asyncio.timeout(seconds):
                return await self.look()
        except TimeoutError:
            return [Finding(self.name, State.FAIL, self.value, f"no answer within {seconds:g} s", self.late)]
        except Exception as error:
            what = f"the check itself failed: {type(error).__name__}: {error}"
            return [Finding(self.name, State.FAIL, self.value, what, "report this as a fault of the service")]


async def run_all(checks: Sequence[Check], *, seconds: float, progress: Progress) -> list[Finding]:
    """Run checks at the same time, and return their findings in the order of the checks.

    Args:
        checks: the checks.
        seconds: time of each check that names no time itself.
        progress: called with the names of the checks that still run, first with all names.
    """
    running = [check.name for check in checks]

    async def run(check: Check) -> Sequence[Finding]:
        findings = await check.run(seconds)
        running.remove(check.name)
        progress(list(running))
        return findings

    progress(list(running))
    found = await asyncio.gather(*(run(check) for check in checks))
    return [finding for findings in found for finding in findings]

"""Checks run at the same time, each within its time, and never raise."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from common.check.check import Check, run_all
from common.check.finding import Finding, State
from common.check.report import Report


async def fine() -> Sequence[Finding]:
    return [Finding("fine", State.OK, "", "works")]


async def endless() -> Sequence[Finding]:
    await asyncio.Event().wait()
    raise AssertionError


async def broken() -> Sequence[Finding]:
    raise KeyError("x")


async def test_late_and_broken_checks_are_findings() -> None:
    shown: list[Collection[str]] = []
    checks = [Check("late", "v", endless, "wait"), Check("broken", "", broken), Check("fine", "", fine)]
    found = await run_all(checks, seconds=0.05, progress=shown.append)
    assert [(each.name, each.state) for each in found] == [
        ("late", State.FAIL),
        ("broken", State.FAIL),
        ("fine", State.OK),
    ]
    assert (found[0].what, found[0].todo) == ("no answer within 0.05 s", "wait")
    assert shown[0] == ["late", "broken", "fine"]
    assert shown[-1] == []


def test_table_is_plain_without_colours_and_hides_keys() -> None:
    found = [Finding("a", State.WARN, "sk-0123456789", "one\ntwo \x1b[31m", "mend it")]
    report = Report("serve", "1.0", found)
    table = report.table(colours=False)
    assert "\x1b" not in table
    assert "sk-0123456789" not in table + str(report.to_json())
    assert "-> mend it" in table
    assert "\x1b[33mwarn" in report.table(colours=True)
    assert report.exit_code == 0

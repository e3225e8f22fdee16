"""The sub-command `check`: looks at settings and surroundings, and prints a table or JSON.

The checks of a role are in its own package, which is imported only when it is needed: a host of dispatchers needs
nothing of workers.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Collection, Sequence
from importlib import import_module
from typing import Final

import orjson
import structlog

from common.check import certificates, open_files, ports, proxy, redis_server, settings_check
from common.check.check import Check, run_all
from common.check.report import Report
from common.errors import SettingsError
from common.observe import redaction
from common.observe.status_line import StatusLine
from common.runtime.release import RELEASE
from common.settings.roles import Role
from common.settings.settings import Settings

DEFAULT_SECONDS: Final = 5.0
MAX_SECONDS: Final = 60.0

_PACKAGES: Final = {
    Role.SERVE: ("worker", "dispatcher"),
    Role.WORKER: ("worker",),
    Role.DISPATCHER: ("dispatcher",),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-command's arguments."""
    parser.add_argument(
        "--role",
        choices=[role.value for role in Role],
        default=Role.SERVE.value,
        help="the process whose settings and surroundings are checked (default %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    parser.add_argument(
        "--seconds", type=_seconds, default=DEFAULT_SECONDS, help="time of each check (default %(default)g)"
    )


async def run(options: argparse.Namespace) -> int:
    """Run all checks of a role, print their findings, and return the exit code."""
    role = Role(options.role)
    # Each line of a log is a finding here.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        settings = Settings.load(role)
    except SettingsError as error:
        report = Report(role.value, RELEASE, settings_check.of_wrong(error), wrong_settings=True)
    else:
        redaction.know("settings", settings.secrets)
        found = await run_all(
            checks(settings, role, options.seconds),
            seconds=options.seconds,
            progress=_progress(StatusLine()),
        )
        report = Report(role.value, RELEASE, [*settings_check.of_right(settings), *found])
    if options.json:
        sys.stdout.write(orjson.dumps(report.to_json(), option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        sys.stdout.write(report.table(colours=colours))
    return report.exit_code


def checks(settings: Settings, role: Role, seconds: float) -> list[Check]:
    """Return all checks of a role, in the order in which they are shown.

    Args:
        settings: of the process.
        role: of the process.
        seconds: time of each check.
    """
    found: list[Check] = []
    for package in _PACKAGES[role]:
        of_role: Callable[[Settings, float], Sequence[Check]] = import_module(f"{package}.check.checks").checks
        found += of_role(settings, seconds)
    return [
        *found,
        redis_server.check(settings, role, seconds),
        *proxy.checks(settings),
        *certificates.checks(settings),
        *ports.checks(settings, role),
        open_files.check(settings, role),
    ]


def _progress(line: StatusLine) -> Callable[[Collection[str]], None]:
    """Return a function that shows the running checks, and nothing when all have ended."""

    def show(running: Collection[str]) -> None:
        if running:
            line.show(f"checking {', '.join(dict.fromkeys(running))} ...")
        else:
            line.clear()

    return show


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: give a number above 0, up to {MAX_SECONDS:g}")
    return seconds

"""Programs that tests run as processes of the service, with a `main` of the test's own."""

from __future__ import annotations

import textwrap

_PROCESS = """
{before}
import asyncio, os, signal, socket, sys, traceback
from common import errors
from common.observe import logs, metrics
from common.net import ports
from common.runtime import process, process_exit
from common.settings import settings

log = logs.get_logger()

async def main(config, this):
{body}

role = settings.Role({role!r})
config = settings.Settings.parse(dict(os.environ), role)
try:
    code = process.run_process(main, config, role)
except errors.ServiceError:
    traceback.print_exc()
    code = 1
process_exit.exit_now(code)
"""

_SERVE = """
import sys
from common.runtime import cli, supervisor

supervisor.command_of = lambda role: (sys.executable, "-c", {bodies!r}[role])
{before}
sys.exit(cli.main(["serve"]))
"""


def process_program(role: str, body: str, before: str = "") -> str:
    """Return a process of `role` whose `main(config, this)` has this body; `before` comes before all imports."""
    return _PROCESS.format(
        before=before, role=role, body=textwrap.indent(textwrap.dedent(body).strip("\n"), "    ")
    )


def serve_program(dispatcher: str, worker: str, before: str) -> str:
    """`serve` with dispatchers and workers whose `main(config, this)` have these bodies."""
    bodies = {
        "dispatcher": process_program("dispatcher", dispatcher),
        "worker": process_program("worker", worker),
    }
    return _SERVE.format(bodies=bodies, before=before)

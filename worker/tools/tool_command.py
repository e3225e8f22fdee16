"""The sub-command `tool`: lists the tools, and runs one as a call would.

The tools are loaded in the processes that a worker loads them in, with the same environment. A result goes to
stdout. What a tool prints, and why a file does not load, goes to stderr.
"""

from __future__ import annotations

import argparse
import sys
import uuid
from typing import Any, Final

import orjson

from common.errors import ServiceError, SettingsError
from common.observe import logs, redaction
from common.observe.log_options import LogFormat, LogLevel
from common.observe.tool_outcome import ToolOutcome
from common.settings.roles import Role
from common.settings.settings import Settings
from worker.tools import arguments as json_arguments
from worker.tools.built_in import BUILT_IN
from worker.tools.errors import InvalidArguments
from worker.tools.signature import signature
from worker.tools.tool_registry import ToolRegistry
from worker.tools.tool_set import ToolSet

_BUILT_IN: Final = "built in"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-command's own sub-commands and arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="the tools, with their arguments and files")
    listing.add_argument("--json", action="store_true", help="print JSON, with the schemas of the arguments")
    running = actions.add_parser("run", help="run one tool, and print its result")
    running.add_argument("name", help="name of the tool")
    running.add_argument("arguments", nargs="?", default="{}", help="its arguments, a JSON object (default {})")
    running.add_argument("--uuid", default="", help="uuid of the call that the tool is told (default: made up)")
    running.add_argument("--metadata", default="{}", help="metadata that the tool is told, a JSON object of texts")


async def run(options: argparse.Namespace) -> int:
    """List the tools, or run one; return the exit code."""
    # Neither a key nor a Redis is needed for a tool.
    settings = Settings.load(Role.WORKER, needed=())
    redaction.know("settings", settings.secrets)
    is_run = options.action == "run"
    metadata = _metadata(options.metadata) if is_run else {}
    # Only errors, because the start and the end of the processes say nothing of a tool.
    _log_from(LogLevel.ERROR)
    registry = ToolRegistry.of(settings)
    try:
        await registry.start()
        tools = await registry.tool_set()
        if is_run:
            return await _run(tools, options, metadata)
        return _list(tools, registry, as_json=options.json)
    finally:
        await registry.stop()


def _list(tools: ToolSet, registry: ToolRegistry, *, as_json: bool) -> int:
    """Print all tools. Return 1 if a file is not used, otherwise 0."""
    files = registry.file_names
    own = [each | {"file": files.get(each["name"], "")} for each in tools.definitions]
    names = {each["name"] for each in own}
    if as_json:
        report = {
            "tools": [
                {name: each[name] for name in ("name", "file", "description", "parameters")} for each in own
            ],
            "built_in": sorted(BUILT_IN - names),
            "problems": [{"file": file, "reason": reason} for file, reason in registry.problems],
        }
        sys.stdout.write(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        rows = [(signature(each), each["file"], each["description"]) for each in own]
        rows += [(name, _BUILT_IN, "") for name in sorted(BUILT_IN - names)]
        sys.stdout.write("".join(_row(row) for row in _aligned(rows)))
    return 1 if registry.problems else 0


def _aligned(rows: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return [(f"{one:<{widths[0]}}", f"{other:<{widths[1]}}", " ".join(last.split())) for one, other, last in rows]


def _row(row: tuple[str, str, str]) -> str:
    return "  ".join(row).rstrip() + "\n"


async def _run(tools: ToolSet, options: argparse.Namespace, metadata: dict[str, str]) -> int:
    """Run one tool. Return 0 if it has a result, otherwise 1."""
    name = options.name
    if name in BUILT_IN and name not in tools.names:
        raise ServiceError(f"{name} is built in, and acts on a call: call the agent, and ask for it")
    _log_from(LogLevel.DEBUG)
    result = await tools.run(name, options.arguments, uuid=options.uuid or str(uuid.uuid4()), metadata=metadata)
    _log_from(LogLevel.ERROR)
    is_ok = result.outcome is ToolOutcome.OK
    stream = sys.stdout if is_ok else sys.stderr
    stream.write(f"{result.output}\n")
    return 0 if is_ok else 1


def _log_from(level: LogLevel) -> None:
    logs.configure("tool", level=level, line_format=LogFormat.CONSOLE)


def _metadata(text: str) -> dict[str, str]:
    try:
        given: dict[str, Any] = json_arguments.parse(text)
    except InvalidArguments as error:
        raise SettingsError(f"--metadata={text!r} is no JSON object: {error}") from None
    return {name: str(value) for name, value in given.items()}

"""The sub-command `chat`: settings, shared things of a worker, and the streams."""

from __future__ import annotations

import argparse
import os
import sys
import uuid
from typing import Any, Final

from common.errors import SettingsError
from common.observe import logs, metrics, redaction
from common.observe.log_options import LogFormat, LogLevel
from common.settings.roles import Role
from common.settings.secret_store import Secrets
from common.settings.settings import Settings
from worker.chat.chat import Chat
from worker.chat.screen import Screen
from worker.chat.typed_lines import TypedLines
from worker.config import instructions
from worker.config.prices import Prices
from worker.runner.resources import Resources
from worker.tools import arguments as json_arguments
from worker.tools.errors import InvalidArguments
from worker.tools.tool_registry import ToolRegistry

DIFFERENCES: Final = """
The session is that of a telephone call: the same prompt, voice, settings and tools, which run for real. It differs
in this: nothing is heard, so turn detection, noise reduction and transcription do nothing; a reply counts as heard
at once; transfer and hang-up are shown, and end the conversation; silence ends nothing; a lost session is not
replaced. Replies are spoken, and cost what spoken replies cost, though only their words are shown. The agent's
words go to stdout, all else to stderr. /keys 12# presses keys, /quit ends."""

_WITHOUT: Final = {"silence_hangup_seconds": None, "openai_turn_detection_idle_timeout_ms": None}
"""Settings of a caller's silence: a person who types is silent."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-command's arguments."""
    parser.description = f"{parser.description}\n{DIFFERENCES}"
    parser.add_argument("--uuid", default="", help="uuid of the call that tools are told (default: made up)")
    parser.add_argument(
        "--metadata", default="{}", help="metadata of the call, such as from and to: a JSON object of texts"
    )


async def run(options: argparse.Namespace) -> int:
    """Hold a typed conversation, and return the exit code."""
    metadata = _metadata(options.metadata)
    settings = Settings.load(Role.WORKER, needed=("openai_api_key",)).model_copy(update=_WITHOUT)
    redaction.know("settings", settings.secrets)
    level = settings.log_level if "log_level" in settings.model_fields_set else LogLevel.WARNING
    logs.configure("chat", level=level, line_format=settings.log_format or LogFormat.CONSOLE)
    screen = Screen(
        sys.stdout,
        sys.stderr,
        names_speakers=sys.stdin.isatty() and sys.stdout.isatty(),
        colours=sys.stderr.isatty() and not os.environ.get("NO_COLOR"),
    )
    for notice in settings.notices:
        screen.note(notice)
    tools = ToolRegistry.of(settings)
    http = instructions.http_client()
    try:
        await tools.start()
        for file, reason in tools.problems:
            screen.note(f"{file} is not used: {reason}")
        resources = Resources(Secrets(settings), metrics.worker(), Prices.load(settings.prices_file), tools, http)
        resources.own_key.use(settings.openai_api_key)
        call_uuid = options.uuid or str(uuid.uuid4())
        chat = Chat(call_uuid, metadata, resources, screen, interrupts=sys.stdin.isatty())
        return await chat.run(TypedLines(sys.stdin.buffer))
    finally:
        await tools.stop()
        await http.close()


def _metadata(text: str) -> dict[str, str]:
    try:
        given: dict[str, Any] = json_arguments.parse(text)
    except InvalidArguments as error:
        raise SettingsError(f"--metadata={text!r} is no JSON object: {error}") from None
    return {name: str(value) for name, value in given.items()}

"""The check of the instructions: their variable, their web service and their file."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import yarl

from common.check.check import Check
from common.check.finding import Finding, State
from common.settings.settings import Settings
from worker.config import instructions
from worker.config.profile_loading import tells

NAME: Final = "instructions"

MAX_KEYS: Final = 10
MAX_KEY_CHARACTERS: Final = 32


def checks(settings: Settings) -> list[Check]:
    """Return a check for each source of the instructions that calls use."""
    if settings.openai_instructions is not None:
        return [_given(f"{len(settings.openai_instructions)} characters", "OPENAI_INSTRUCTIONS")]
    found = []
    if settings.openai_url_instructions is not None:
        found.append(_of_service(settings, yarl.URL(settings.openai_url_instructions)))
    if settings.openai_file_instructions is not None:
        found.append(_of_file(settings.openai_file_instructions))
    if not found and settings.openai_prompt_id is not None:
        return [_given("OPENAI_PROMPT_ID names a stored prompt", settings.openai_prompt_id)]
    return found or [_given("none are set: the agent has a short prompt of the service", "")]


def _given(what: str, value: str) -> Check:
    async def look() -> Sequence[Finding]:
        return [Finding(NAME, State.OK, value, what)]

    return Check(NAME, value, look)


def _of_service(settings: Settings, url: yarl.URL) -> Check:
    value = instructions.shown(url)

    async def look() -> Sequence[Finding]:
        proxy = settings.proxies.of(str(url))
        async with instructions.http_client() as http:
            try:
                answer = await instructions.ask(http, url, str(uuid.uuid4()), proxy, instructions.TIMEOUT_SECONDS)
            except instructions.NotLoadedError as error:
                todo = "correct OPENAI_URL_INSTRUCTIONS, or the service"
                return [Finding(NAME, State.FAIL, value, f"the service failed: {error}", todo)]
        keys = ", ".join(str(key)[:MAX_KEY_CHARACTERS] for key in list(answer)[:MAX_KEYS]) or "nothing"
        if tells(answer):
            return [Finding(NAME, State.OK, value, f"the service answered about a made-up call: {keys}")]
        what = f"the service answered about a made-up call without instructions: {keys}"
        return [
            Finding(NAME, State.WARN, value, what, "answer with `system`, unless the call must exist for that")
        ]

    return Check(NAME, value, look, late="correct OPENAI_URL_INSTRUCTIONS, or the service")


def _of_file(path: Path) -> Check:
    value = str(path)

    async def look() -> Sequence[Finding]:
        try:
            text = await asyncio.to_thread(instructions.read_now, path)
        except OSError as error:
            reason = error.strerror or type(error).__name__
        except UnicodeDecodeError:
            reason = "it is not UTF-8"
        except instructions.NotLoadedError as error:
            reason = str(error)
        else:
            return [Finding(NAME, State.OK, value, f"{len(text)} characters")]
        todo = "correct OPENAI_FILE_INSTRUCTIONS, or the file"
        return [Finding(NAME, State.FAIL, value, f"the file cannot be used: {reason}", todo)]

    return Check(NAME, value, look, late="check the folder of the file: the disk does not answer")

"""The operator's own redaction (CALL_RECORDS_REDACT), and the thread in which all redaction runs."""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import structlog

from common.errors import SettingsError
from common.observe.line_limit import shown
from dispatcher.records.redaction import Hook, Redacted, Redactor

REDACTION_SECONDS: Final = 10.0
"""Maximum time for one record. Then its texts are left out."""

MAX_STUCK_THREADS: Final = 4
"""Number of threads in which a hook hangs. With so many, no text is given to the hook any more."""

log = structlog.get_logger()


def load_hook(name: str) -> Hook:
    """Return the function `module:function`, from an installed package or the working directory.

    Raises:
        SettingsError: the module cannot be imported, or has no such function.
    """
    module_name, _, function_name = name.partition(":")
    folder = str(Path.cwd())
    if folder not in sys.path:
        # Behind all others: a module of the working directory must not replace one of this service.
        sys.path.append(folder)
    try:
        hook = getattr(importlib.import_module(module_name), function_name)
    # An operator's module may raise anything, SystemExit included.
    except (Exception, SystemExit) as error:
        raise SettingsError(
            f"CALL_RECORDS_REDACT={name!r} cannot be loaded: {type(error).__name__}: {shown(str(error))}"
        ) from error
    if not callable(hook):
        raise SettingsError(f"CALL_RECORDS_REDACT={name!r} is no function")
    function: Hook = hook
    return function


class RedactionThread:
    """Redacts texts without delaying the event loop, within a bounded time."""

    def __init__(self, redactor: Redactor, *, seconds: float = REDACTION_SECONDS) -> None:
        self._redactor = redactor
        self._seconds = seconds
        self._stuck: list[threading.Thread] = []

    async def texts(self, texts: Sequence[str], numbers: Sequence[str]) -> Redacted:
        """Return the redacted texts; all of them are left out if the hook hangs or the redaction fails."""
        left_out = Redacted((None,) * len(texts), len(texts))
        self._stuck = [thread for thread in self._stuck if thread.is_alive()]
        if len(self._stuck) >= MAX_STUCK_THREADS:
            return left_out
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Redacted] = loop.create_future()

        def run() -> None:
            try:
                made = self._redactor.texts(texts, numbers)
            # A hook may raise SystemExit or the like; its message may quote the text.
            except BaseException as error:
                log.error("redaction failed", reason=type(error).__name__, effect="texts are left out")
                made = left_out
            _call_soon(loop, lambda: None if done.done() else done.set_result(made))

        thread = threading.Thread(target=run, name="redaction", daemon=True)
        thread.start()
        try:
            async with asyncio.timeout(self._seconds):
                return await done
        except TimeoutError:
            self._stuck.append(thread)
            log.error(
                "redaction took too long",
                seconds=self._seconds,
                threads=len(self._stuck),
                effect="texts are left out",
            )
            return left_out


def _call_soon(loop: asyncio.AbstractEventLoop, action: Callable[[], object]) -> None:
    try:
        loop.call_soon_threadsafe(action)
    except RuntimeError:
        return  # the loop ended meanwhile

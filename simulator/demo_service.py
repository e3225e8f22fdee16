"""The service of the demo: `avr-sts-openai serve` in a process of its own, with settings of the demo alone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from common.runtime.child import die_with
from common.settings import renamed
from common.settings.settings import Settings

START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 15.0
LOG_LINES_SHOWN: Final = 20
RECORD_SECONDS: Final = 10.0
"""Maximum time until the record of an ended call is written."""

_POLL_SECONDS: Final = 0.05
_OTHER_BEGINNINGS: Final = ("otel_",)
"""OpenTelemetry's own variables, which the service hands to its packages."""


class DemoError(Exception):
    """A failure of the demo, in one line for people."""


@dataclass(frozen=True, slots=True)
class Service:
    """A running `serve`.

    Attributes:
        url: `STS_URL` of AVR Core.
        admin_url: address of the page and of the calls API.
        records: folder of the records of calls.
    """

    url: str
    admin_url: str
    records: Path

    async def record_of(self, uuid: str) -> dict[str, Any]:
        """Wait for the record of an ended call, and return it.

        Raises:
            DemoError: it is not written in time.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RECORD_SECONDS):
                while True:
                    for path in self.records.glob("*.jsonl"):
                        for line in path.read_text("utf-8").splitlines(keepends=True):
                            if line.endswith("\n") and uuid in line:
                                record: dict[str, Any] = json.loads(line)
                                return record
                    await asyncio.sleep(_POLL_SECONDS)
        raise DemoError(f"the service wrote no record of the call within {RECORD_SECONDS:g} s")


def without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without any setting of the service: these are meant for the real one."""
    settings = Settings.variable_names()
    return {
        name: value
        for name, value in environment.items()
        if renamed.current_name(name) not in settings and not name.lower().startswith(_OTHER_BEGINNINGS)
    }


@asynccontextmanager
async def serve(realtime_url: str, *, ami_url: str, tools_dir: Path) -> AsyncIterator[Service]:
    """Run the service on free ports.

    Raises:
        DemoError: it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="avr-sts-demo-") as directory:
        # A folder of its own, because a .env of the person at the terminal is for the real service.
        records = Path(directory) / "records"
        records.mkdir()
        environment = without_settings(os.environ) | {
            "PORT": "0",
            "ADMIN_PORT": "0",
            "WORKERS": "2",
            "DISPATCHERS": "1",
            "OPENAI_API_KEY": "the-simulator-takes-any",
            "OPENAI_BASE_URL": realtime_url,
            "AMI_URL": ami_url,
            "TOOLS_DIR": str(tools_dir),
            "CALL_RECORDS_DIR": str(records),
            "CALL_RECORDS_KEEP_SECONDS": "3600",
            "CALL_RECORDS_METADATA": "from,to",
            "CALL_RECORDS_TEXT": "true",
            "LOG_FORMAT": "json",
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "common.runtime.cli",
            "serve",
            env=environment,
            cwd=directory,
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            preexec_fn=die_with(os.getpid()),
        )
        lines: list[str] = []
        reading = None
        try:
            port, admin_port = await _serving(process, lines)
            reading = asyncio.create_task(_keep_reading(process, lines))
            yield Service(f"ws://127.0.0.1:{port}", f"http://127.0.0.1:{admin_port}", records)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            if reading is None:
                reading = asyncio.create_task(_keep_reading(process, lines))
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await reading
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


async def _serving(process: asyncio.subprocess.Process, lines: list[str]) -> tuple[int, int]:
    assert process.stderr is not None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_SECONDS):
            async for raw in process.stderr:
                lines.append(raw.decode(errors="replace").rstrip())
                del lines[:-LOG_LINES_SHOWN]
                with contextlib.suppress(ValueError):
                    line = json.loads(raw)
                    if line.get("event") == "serving":
                        return line["port"], line["admin_port"]
    shown = "\n".join(lines)
    raise DemoError(f"the service did not start within {START_SECONDS:g} s; its log ends with\n{shown}")


async def _keep_reading(process: asyncio.subprocess.Process, lines: list[str]) -> None:
    """Read the output of the service, because a full pipe would stop it."""
    assert process.stderr is not None
    async for raw in process.stderr:
        lines.append(raw.decode(errors="replace").rstrip())
        del lines[:-LOG_LINES_SHOWN]

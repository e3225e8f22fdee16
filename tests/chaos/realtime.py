"""The Realtime simulator in its own process, controlled over HTTP."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson

from tests.chaos import script
from tests.chaos.facts import Session

_REPOSITORY = Path(__file__).resolve().parents[2]
_START_SECONDS = 30.0
_STOP_SECONDS = 10.0

# Number of ended sessions kept: many times the calls that are up.
_HISTORY = 4000


class RealtimeProcess:
    """A running simulator, made by `start`.

    Attributes:
        url: address for OPENAI_BASE_URL.
        port: port that workers connect to.
    """

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.url = url
        self.port = urlsplit(url).port or 0
        self._process = process
        self._control_url = f"http://127.0.0.1:{self.port}/simulator"
        self._http = aiohttp.ClientSession()

    @classmethod
    async def start(cls, *arguments: str) -> RealtimeProcess:
        """Start it with these further options, and return when it listens."""
        command = (sys.executable, "-m", "common.runtime.cli", "simulate", "--port", "0", "--no-audio")
        process = await asyncio.create_subprocess_exec(
            *command,
            "--history",
            str(_HISTORY),
            *arguments,
            env={**os.environ, "PYTHONPATH": str(_REPOSITORY)},
            cwd=tempfile.gettempdir(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdout is not None
        async with asyncio.timeout(_START_SECONDS):
            line = (await process.stdout.readline()).decode()
        return cls(process, line.split()[-1])

    @property
    def pid(self) -> int:
        return self._process.pid

    async def stop(self) -> None:
        """End the process."""
        await self._http.close()
        if self._process.returncode is None:
            self._process.terminate()
            try:
                async with asyncio.timeout(_STOP_SECONDS):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()

    async def live(self) -> list[dict[str, Any]]:
        """Return brief reports of the open sessions."""
        report = await self._get(live="1", brief="1")
        return list(report["live"])

    async def sessions_of(self, uuid: str) -> list[Session]:
        """Return the sessions of a call, in order of opening. A uuid may be a part of another call's uuid."""
        report = await self._get(mentions=uuid)
        reports = (*report["live"], *report["ended"])
        sessions = (Session.of(each) for each in reports if script.uuid_in(each["instructions"]) == uuid)
        return sorted(sessions, key=lambda session: session.number)

    async def counters(self) -> dict[str, Any]:
        """Return connection attempts, requests and tokens: in total, and by the second."""
        async with self._http.get(f"{self._control_url}/counters") as answer:
            report: dict[str, Any] = orjson.loads(await answer.read())
            return report

    async def fault(self, fault: str, **arguments: Any) -> bool:
        """Command a fault; return False if the named session has ended."""
        async with self._http.post(f"{self._control_url}/faults", json={"fault": fault, **arguments}) as answer:
            return answer.status == 200

    async def _get(self, **query: str) -> dict[str, Any]:
        async with self._http.get(f"{self._control_url}/sessions", params=query) as answer:
            report: dict[str, Any] = orjson.loads(await answer.read())
            return report

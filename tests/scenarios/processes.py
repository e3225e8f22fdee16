"""Start, watch and kill the service's real processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

import orjson
import psutil

import common
from simulator.realtime.settings import SimulatorSettings
from tests.helpers import eventually
from tests.scenarios import forked

KEY = "sk-test-0123456789abcdefghij"

BRIEF = SimulatorSettings(
    words=2, greeting_words=2, word_ms=200, first_audio_seconds=0.1, transcription_delay_seconds=0.1
)
"""A Realtime API that says little: for tests in which the length of what is said does not matter."""

# Time until a test gives up waiting for an event.
PATIENCE_SECONDS = 30.0
STUFFING = b"#"
"""The beginning of lines that a test wrote into a process's stderr."""

_REPOSITORY = Path(__file__).resolve().parents[2]
# The code under test, which is the sources or the compiled tree, and then the tests.
PYTHONPATH = os.pathsep.join((str(Path(common.__file__).resolve().parents[1]), str(_REPOSITORY)))


class ServiceProcess:
    """One `avr-sts-openai` process, with its log lines, for which tests can wait."""

    module = "common.runtime.cli"
    pythonpath = PYTHONPATH

    @classmethod
    def program(cls) -> tuple[str, ...]:
        """Return what Python runs, without the sub-command: no module from the working directory."""
        return ("-P", "-m", cls.module)

    def __init__(self, process: asyncio.subprocess.Process | forked.ForkedProcess, name: str) -> None:
        self.name = name
        self.lines: list[dict[str, Any]] = []
        self.raw = ""
        self._process = process
        self._arrived = asyncio.Condition()
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, *arguments: str, **settings: object) -> Self:
        """Start a sub-command in a new Python with only these settings in the environment."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *cls.program(),
            *arguments,
            env=cls._environment(settings),
            cwd=tempfile.gettempdir(),  # a folder without .env
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        return cls(process, arguments[0])

    @classmethod
    async def fork(cls, *arguments: str, **settings: object) -> Self:
        """Start a sub-command like `start`, without importing its modules again where that is possible.

        A library reads SSL_CERT_FILE when it is imported, and other classes run other programs.
        """
        if not forked.POSSIBLE or cls is not ServiceProcess or "SSL_CERT_FILE" in settings:
            return await cls.start(*arguments, **settings)
        process = await forked.fork(arguments, cls._environment(settings), cls.pythonpath)
        return cls(process, arguments[0])

    @classmethod
    def _environment(cls, settings: dict[str, object]) -> dict[str, str]:
        environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        environment |= {name: str(value) for name, value in settings.items()}
        return environment | {"PYTHONPATH": cls.pythonpath}

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    def family(self) -> list[psutil.Process]:
        """Return the process and all its descendants."""
        parent = psutil.Process(self.pid)
        return [parent, *parent.children(recursive=True)]

    async def line(self, event: str, **fields: object) -> dict[str, Any]:
        """Wait for a log line and return it.

        Raises:
            AssertionError: the line did not come in time, or the process ended without it.
        """

        def found() -> dict[str, Any] | None:
            wanted = {"event": event, **fields}
            return next((line for line in self.lines if wanted.items() <= line.items()), None)

        try:
            async with asyncio.timeout(PATIENCE_SECONDS), self._arrived:
                await self._arrived.wait_for(lambda: found() or self._reading.done())
        except TimeoutError:
            pass
        line = found()
        assert line is not None, f"{self.name} never logged {event!r} {fields}:\n{self.raw[-4000:]}"
        return line

    def events(self, event: str) -> list[dict[str, Any]]:
        """Return the log lines with this event so far."""
        return [line for line in self.lines if line["event"] == event]

    def signal(self, number: int) -> None:
        """Send a signal to the process, but not to its descendants."""
        self._process.send_signal(number)

    def pause_reading(self) -> None:
        """Stop reading the process's stderr, like a stalled log collector."""
        self._may_read.clear()

    def resume_reading(self) -> None:
        """Undo `pause_reading`."""
        self._may_read.set()

    async def ended(self, timeout_seconds: float = PATIENCE_SECONDS) -> int:
        """Wait for the end and return the exit code.

        Raises:
            TimeoutError: the process still runs.
        """
        async with asyncio.timeout(timeout_seconds):
            code = await self._process.wait()
            await self._reading
        return code

    async def stop(self) -> int:
        """Send SIGTERM, and wait for the end."""
        if self.returncode is None:
            self.signal(signal.SIGTERM)
        return await self.ended()

    async def kill(self) -> None:
        """Send SIGKILL to the process and all its descendants, in any state."""
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            for process in self.family():
                process.kill()
        await self.ended()

    async def _read(self) -> None:
        assert self._process.stderr is not None
        async for raw in self._process.stderr:
            await self._may_read.wait()
            if raw.startswith(STUFFING):
                continue
            self.raw += raw.decode(errors="replace")
            with contextlib.suppress(orjson.JSONDecodeError):
                line = orjson.loads(raw)
                if isinstance(line, dict) and "event" in line:
                    self.lines.append(line)
            async with self._arrived:
                self._arrived.notify_all()
        async with self._arrived:
            self._arrived.notify_all()


class Cluster:
    """A cluster of dispatchers and workers in separate processes, with one Redis and one simulator."""

    def __init__(self, redis_url: str, realtime_url: str, **settings: object) -> None:
        self.workers: list[ServiceProcess] = []
        self.dispatchers: list[ServiceProcess] = []
        self.settings = {
            "REDIS_URL": redis_url,
            "OPENAI_API_KEY": KEY,
            "OPENAI_BASE_URL": realtime_url,
            "WORKER_ADDRESS": "127.0.0.1",
            "WORKER_PORT": 0,
            "PORT": 0,
            "ADMIN_PORT": 0,
            "DRAIN_SECONDS": 5,
            **settings,
        }

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(process.kill() for process in (*self.dispatchers, *self.workers)))

    async def start(self, *, workers: int, dispatchers: int = 1) -> None:
        """Start dispatchers and workers, and return when every dispatcher has a link to every worker."""
        await asyncio.gather(*(self.add_worker() for _ in range(workers)))
        await asyncio.gather(*(self.add_dispatcher() for _ in range(dispatchers)))

    async def add_worker(
        self, process: type[ServiceProcess] = ServiceProcess, **settings: object
    ) -> ServiceProcess:
        """Start another worker; dispatchers find it within a second."""
        worker = await process.fork("worker", **(self.settings | settings))
        self.workers.append(worker)
        await worker.line("worker listening")
        return worker

    async def add_dispatcher(
        self, process: type[ServiceProcess] = ServiceProcess, **settings: object
    ) -> ServiceProcess:
        """Start another dispatcher, and wait for its links to all workers."""
        dispatcher = await process.fork("dispatcher", **(self.settings | settings))
        self.dispatchers.append(dispatcher)
        for worker in self.workers:
            if worker.returncode is None:
                await dispatcher.line("link up", worker=await worker_id(worker))
        return dispatcher

    async def url(self, number: int = 0) -> str:
        """Return the address for AVR Core."""
        line = await self.dispatchers[number].line("dispatcher listening")
        return f"ws://127.0.0.1:{line['port']}/"

    async def admin_url(self, number: int = 0) -> str:
        """Return the address of a dispatcher's admin port."""
        line = await self.dispatchers[number].line("dispatcher listening")
        return f"http://127.0.0.1:{line['admin_port']}"

    @property
    def logs(self) -> str:
        """Return the complete output of all processes."""
        return "".join(process.raw for process in (*self.dispatchers, *self.workers))


async def worker_id(worker: ServiceProcess) -> str:
    """Return the id under which a worker is published in Redis."""
    line = await worker.line("worker listening")
    return str(line["worker"])


async def wait_gone(processes: list[psutil.Process]) -> None:
    """Wait until all these processes have ended."""
    await eventually(lambda: not any(process.is_running() for process in processes), PATIENCE_SECONDS)

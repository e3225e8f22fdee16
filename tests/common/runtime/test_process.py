from __future__ import annotations

import asyncio
import gc
import json
import os
import pty
import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from prometheus_client import CollectorRegistry, Histogram

from common.runtime.process import OPEN_FILES, STOP_SECONDS, Process, watch_event_loop
from common.settings.child_settings import ChildSettings
from common.settings.secret_store import Secrets
from common.settings.settings import Settings
from tests.common.runtime.programs import process_program
from tests.hanging_resolver import HOST, HangingResolver
from tests.helpers import eventually

WAIT_FOR_BOTH = """
print("up")
await this.draining.wait()
print("draining")
await this.stopping.wait()
print("stopping")
return 7
"""


class Running:
    """A process with a `main` of its own."""

    def __init__(
        self,
        body: str,
        role: str = "worker",
        *,
        child: ChildSettings | None = None,
        before: str = "",
        **variables: str,
    ) -> None:
        self.rest = ""
        needed = {
            "OPENAI_API_KEY": "k",
            "REDIS_URL": "redis://127.0.0.1:1",
        }
        told = {} if child is None else child.environment()
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-c", process_program(role, body, before)],
            env=os.environ | needed | told | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=() if child is None or child.ready_fd < 0 else (child.ready_fd,),
        )

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def drained_after(self, event: str) -> list[dict[str, object]]:
        """Wait for a log line; then drain the process, and return all that it logged."""
        assert self.process.stderr is not None
        lines = []
        for raw in self.process.stderr:
            lines.append(json.loads(raw))
            if lines[-1]["event"] == event:
                break
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGQUIT)
        self.rest, logged = self.process.communicate(timeout=60)
        assert self.process.returncode == 7
        return lines + [json.loads(line) for line in logged.splitlines()]

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def end(self) -> tuple[int, list[dict[str, object]]]:
        """Return the exit code and the log."""
        _, logged = self.process.communicate(timeout=60)
        return self.process.returncode, [json.loads(line) for line in logged.splitlines()]


@pytest.fixture
def run() -> Iterator[Callable[..., Running]]:
    """Starts a process; none is left when the test ends."""
    started: list[Running] = []

    def run(*arguments: Any, **keywords: Any) -> Running:
        started.append(Running(*arguments, **keywords))
        return started[-1]

    yield run
    for running in started:
        running.kill()


@pytest.mark.parametrize(
    ("number", "code", "events"), [(signal.SIGTERM, 7, []), (signal.SIGINT, 130, ["interrupted"])]
)
def test_the_first_signal_drains_and_the_second_stops(
    run: Callable[..., Running], number: signal.Signals, code: int, events: list[str]
) -> None:
    running = run(WAIT_FOR_BOTH)
    assert running.says() == "up"
    running.signal(number)
    assert running.says() == "draining"
    running.signal(number)
    assert running.says() == "stopping"
    ended, logged = running.end()
    assert (ended, [line["event"] for line in logged]) == (code, events)


def test_the_drain_ends_at_its_deadline(run: Callable[..., Running]) -> None:
    running = run(WAIT_FOR_BOTH, DRAIN_SECONDS="0.2")
    assert running.says() == "up"
    running.signal(signal.SIGTERM)
    assert running.says() == "draining"
    assert running.says() == "stopping"
    assert running.end() == (7, [])


def test_a_timely_drain_ends_with_the_exit_code_of_main(run: Callable[..., Running]) -> None:
    running = run("print('up')\nawait this.draining.wait()\nreturn 0", DRAIN_SECONDS="86400")
    assert running.says() == "up"
    running.signal(signal.SIGTERM)
    assert running.end() == (0, [])


@pytest.mark.parametrize(
    "body",
    [
        "print('up')\nawait asyncio.Event().wait()",
        "print('up')\nwhile True:\n  try: await asyncio.Event().wait()\n  except asyncio.CancelledError: pass",
    ],
    ids=["waits for ever", "cannot be cancelled"],
)
def test_a_process_that_does_not_stop_is_ended(run: Callable[..., Running], body: str) -> None:
    running = run(body)
    assert running.says() == "up"
    started = time.monotonic()
    # Two of one kind may arrive as one.
    running.signal(signal.SIGTERM)
    running.signal(signal.SIGQUIT)
    code, logged = running.end()
    assert code == 1
    assert [line["event"] for line in logged] == ["did not stop in time"]
    assert time.monotonic() - started >= STOP_SECONDS


BLOCKED_THREAD = """
    threads = [asyncio.ensure_future(asyncio.to_thread(threading.Event().wait))]
    await asyncio.sleep(0)
"""
RESOLVES = f"""
    resolving = asyncio.ensure_future(asyncio.get_running_loop().getaddrinfo({HOST!r}, 80))
    while not os.path.exists(os.environ["HANGING_RESOLVER_MARK"]):
        await asyncio.sleep(0.01)
"""


@pytest.mark.parametrize("waits", [BLOCKED_THREAD, RESOLVES], ids=["a thread", "a resolver"])
@pytest.mark.parametrize("end", ["return 0", "raise errors.ServiceError('no Redis')"], ids=["returns", "fails"])
def test_the_end_waits_for_no_thread(run: Callable[..., Running], tmp_path: Path, waits: str, end: str) -> None:
    running = run(f"import threading\n{textwrap.dedent(waits)}\n{end}", **HangingResolver(tmp_path).variables)
    assert running.process.wait(30) == (0 if end == "return 0" else 1)


def test_tasks_clean_up_at_the_end(run: Callable[..., Running]) -> None:
    running = run("""
        async def forever():
            try:
                await asyncio.Event().wait()
            finally:
                print("cleaned up")

        task = asyncio.create_task(forever())
        await asyncio.sleep(0)
        return 0
    """)
    assert running.says() == "cleaned up"
    assert running.end() == (0, [])


def test_functions_registered_for_the_exit_run(run: Callable[..., Running]) -> None:
    running = run("import atexit\natexit.register(print, 'at exit')\nsys.stdout.write('written ')\nreturn 0")
    assert running.says() == "written at exit"
    assert running.end() == (0, [])


def test_a_crash_is_one_line_and_exit_code_1(run: Callable[..., Running]) -> None:
    code, (line,) = run("raise RuntimeError('sk-0123456789 is wrong')").end()
    assert code == 1
    assert (line["event"], line["level"], line["process"]) == ("crashed", "error", "worker")
    assert "RuntimeError: *** is wrong" in str(line["exception"])


def test_an_error_of_our_own_is_for_the_caller_to_tell(run: Callable[..., Running]) -> None:
    running = run("raise errors.SettingsError('PORT=1 is taken')")
    _, told = running.process.communicate(timeout=60)
    assert "SettingsError: PORT=1 is taken" in told
    assert "crashed" not in told


def test_the_event_loop_is_uvloops(run: Callable[..., Running]) -> None:
    running = run("print(type(asyncio.get_running_loop()).__module__)\nreturn 0")
    assert running.says() == "uvloop"
    assert running.end() == (0, [])


def test_a_process_may_have_more_open_files_than_a_shell_allows(run: Callable[..., Running]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    body = "import resource\nprint(resource.getrlimit(resource.RLIMIT_NOFILE)[0])\nreturn 0"
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, hard), hard))  # the new process has it from this one
    try:
        assert int(run(body).says()) == min(OPEN_FILES, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_variable_without_effect_is_named_once_at_the_start(run: Callable[..., Running]) -> None:
    _, logged = run("return 0", OPENAI_PROMPT_VERSION="2").end()
    assert [line["event"] for line in logged] == ["OPENAI_PROMPT_VERSION has no effect without OPENAI_PROMPT_ID"]


@pytest.mark.parametrize(("role", "metric"), [("worker", "worker()"), ("dispatcher", "dispatcher()")])
def test_the_event_loop_lag_is_sampled_under_the_roles_name(
    run: Callable[..., Running], role: str, metric: str
) -> None:
    body = f"""
        while not metrics.{metric}.event_loop_lag._sum.get():
            await asyncio.sleep(0.01)
        print([line for line in metrics.render()[0].decode().splitlines() if "lag_seconds_count" in line])
        return 0
    """
    assert f'avr_sts_event_loop_lag_seconds_count{{process="{role}"}}' in run(body, role).says()


@pytest.mark.parametrize(("role", "metric"), [("worker", "worker()"), ("dispatcher", "dispatcher()")])
def test_the_interval_of_a_busy_process_is_shown(run: Callable[..., Running], role: str, metric: str) -> None:
    body = f"""
        import time
        while not metrics.{metric}.grouping_interval._value.get():
            process.READ_COALESCER.read_bytes += 1_000_000
            busy_until = time.monotonic() + 0.02
            while time.monotonic() < busy_until:
                pass
            await asyncio.sleep(0)
        print([line for line in metrics.render()[0].decode().splitlines() if "grouping_interval" in line])
        return 0
    """
    assert f'avr_sts_grouping_interval_seconds{{process="{role}"}} 0.0' in run(body, role).says()


def test_a_worker_has_no_interval_of_a_fixed_length(run: Callable[..., Running]) -> None:
    body = """
        print(process.READ_COALESCER._loop)
        return 0
    """
    assert run(body, "worker", GROUPING_MS="20").says() == "None"
    assert run(body, "dispatcher", GROUPING_MS="0").says() == "None"
    assert "Loop" in run(body, "dispatcher", GROUPING_MS="20").says()


class TestChildOfServe:
    def test_a_child_ignores_ctrl_c_and_obeys_sigterm(self, run: Callable[..., Running], tmp_path: Path) -> None:
        child = run(
            WAIT_FOR_BOTH, child=ChildSettings(index=2, metrics_dir=tmp_path), SESSION_ROLLOVER_SECONDS="60"
        )
        assert child.says() == "up"
        child.signal(signal.SIGINT)
        child.signal(signal.SIGINT)
        child.signal(signal.SIGTERM)
        assert child.says() == "draining"
        child.signal(signal.SIGTERM)
        assert child.says() == "stopping"
        # and says nothing of the settings, which the parent has
        assert child.end() == (7, [])

    def test_a_child_is_named_for_its_slot(self, run: Callable[..., Running], tmp_path: Path) -> None:
        child = run(
            "metrics.worker()\nprint(this.name)\nraise ValueError",
            child=ChildSettings(index=2, metrics_dir=tmp_path),
        )
        assert child.says() == "worker-2"
        _, (line,) = child.end()
        assert line["process"] == "worker-2"
        assert {file.name.split("_")[-1] for file in tmp_path.iterdir()} == {"worker-2.db"}

    def test_a_child_reports_ready_once_and_then_beats(self, run: Callable[..., Running], tmp_path: Path) -> None:
        read_fd, write_fd = os.pipe()
        body = """
            this.ready()
            this.ready()
            await this.draining.wait()
            print("draining")
            await this.stopping.wait()
            return 0
        """
        child = run(body, child=ChildSettings(metrics_dir=tmp_path, ready_fd=write_fd))
        os.close(write_fd)
        with os.fdopen(read_fd) as pipe:
            assert [pipe.readline() for _ in range(3)].count("ready\n") == 1
            child.signal(signal.SIGTERM)
            assert child.says() == "draining"
            assert [pipe.readline() for _ in range(3)] == ["beat\n"] * 3
            child.signal(signal.SIGTERM)
            assert child.end() == (0, [])

    def test_objects_of_a_ready_process_are_frozen_for_the_collector(self, run: Callable[..., Running]) -> None:
        child = run(
            "import gc\nbefore = len(gc.get_objects())\nthis.ready()\nfrozen = gc.get_freeze_count()\n"
            "later = [[] for _ in range(10)]\nthis.ready()\n"
            "print(before > 10000, frozen > before / 2, gc.get_freeze_count() == frozen)\nreturn 0"
        )
        assert child.says() == "True True True"
        assert child.end() == (0, [])

    def test_a_child_without_a_reader_continues(self, run: Callable[..., Running], tmp_path: Path) -> None:
        read_fd, write_fd = os.pipe()
        os.close(read_fd)
        child = run("this.ready()\nreturn 0", child=ChildSettings(metrics_dir=tmp_path, ready_fd=write_fd))
        os.close(write_fd)
        assert child.end() == (0, [])


async def test_a_process_without_a_supervisor_reports_ready_to_none() -> None:
    process = Process("worker", drain_seconds=1, secrets=Secrets(Settings()))
    try:
        process.ready()
    finally:
        gc.unfreeze()
    assert not process.draining.is_set()


async def test_the_drain_deadline_is_known() -> None:
    process = Process("worker", drain_seconds=60, secrets=Secrets(Settings()))
    before = time.monotonic()
    process.request_stop()
    assert process.drain_deadline is not None
    assert before + 60 <= process.drain_deadline <= time.monotonic() + 60


async def test_the_first_request_drains_and_the_second_stops() -> None:
    process = Process("worker", drain_seconds=60, secrets=Secrets(Settings()))
    seen = []
    for _ in range(3):
        seen.append((process.draining.is_set(), process.stopping.is_set()))
        process.request_stop()
    assert seen == [(False, False), (True, False), (True, True)]


async def test_a_blocked_event_loop_shows_as_lag() -> None:
    registry = CollectorRegistry()
    lag = Histogram("lag_seconds", "lag", registry=registry)
    watching = asyncio.create_task(watch_event_loop(lag, sample_seconds=0.01))
    await eventually(lambda: registry.get_sample_value("lag_seconds_count"))

    time.sleep(0.2)  # noqa: ASYNC251 - the measured stall

    samples = registry.get_sample_value("lag_seconds_count") or 0
    await eventually(lambda: (registry.get_sample_value("lag_seconds_count") or 0) > samples)
    assert (registry.get_sample_value("lag_seconds_sum") or 0) >= 0.15
    watching.cancel()


class TestOtherSignals:
    """Signals that end a process by default: a call must not be lost by one."""

    def test_sigquit_drains_and_then_stops(self, run: Callable[..., Running]) -> None:
        running = run(WAIT_FOR_BOTH)
        assert running.says() == "up"
        running.signal(signal.SIGQUIT)
        assert running.says() == "draining"
        running.signal(signal.SIGQUIT)
        assert running.says() == "stopping"
        assert running.end() == (7, [])

    @pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
    def test_a_user_signal_is_ignored_and_logged(
        self, run: Callable[..., Running], number: signal.Signals
    ) -> None:
        running = run(WAIT_FOR_BOTH)
        assert running.says() == "up"
        running.signal(number)
        (line,) = running.drained_after("signal ignored")
        assert line["signal"] == number.name

    def test_sighup_reads_the_secrets_again(self, run: Callable[..., Running], tmp_path: Path) -> None:
        key = tmp_path / "key"
        key.write_text("old")
        running = run(
            "print('up')\nthis.reloaded.append(lambda: print(this.secrets.settings.openai_api_key))\n"
            "await this.draining.wait()\nreturn 7",
            OPENAI_API_KEY="",
            OPENAI_API_KEY_FILE=str(key),
        )
        assert running.says() == "up"
        key.write_text("new")
        running.signal(signal.SIGHUP)
        assert running.says() == "**********"
        (line,) = running.drained_after("secrets reloaded")
        assert line["changed"] == ["OPENAI_API_KEY"]

    def test_a_wrong_reload_changes_nothing_and_is_one_line(
        self, run: Callable[..., Running], tmp_path: Path
    ) -> None:
        key = tmp_path / "key"
        key.write_text("old")
        running = run(
            "print('up')\nthis.reloaded.append(lambda: print('reloaded'))\nawait this.draining.wait()\n"
            "print(this.secrets.settings.openai_api_key.get_secret_value())\nreturn 7",
            OPENAI_API_KEY="",
            OPENAI_API_KEY_FILE=str(key),
        )
        assert running.says() == "up"
        key.unlink()
        running.signal(signal.SIGHUP)
        (line,) = running.drained_after("secrets not reloaded")
        assert line["reason"] == f"OPENAI_API_KEY_FILE={str(key)!r} cannot be read: No such file or directory"
        assert running.process.stdout is not None
        assert running.rest == "old\n"

    def test_a_signal_during_the_start_stays_pending(self, run: Callable[..., Running]) -> None:
        """The parent passes SIGHUP on to children that may just be starting."""
        running = run(
            WAIT_FOR_BOTH,
            before="import os, signal\nfrom common.runtime import signals\nsignals.hold()\n"
            "os.kill(os.getpid(), signal.SIGHUP)\nos.kill(os.getpid(), signal.SIGUSR1)",
        )
        assert running.says() == "up"
        events = {line["event"] for line in running.drained_after("secrets reloaded")}
        assert events == {"secrets reloaded", "signal ignored"}

    def test_a_terminal_that_closed_drains(self) -> None:
        pid, master = pty.fork()
        if pid == 0:
            # The tests may run with nohup, which children inherit.
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            _become(WAIT_FOR_BOTH)
        with os.fdopen(master, "rb", buffering=0) as terminal:
            assert b"up" in terminal.read(100)
        # The terminal is gone, and with it the output of the process.
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7

    def test_with_nohup_a_terminal_that_closed_does_not_drain(self, tmp_path: Path) -> None:
        told = tmp_path / "told"
        os.mkfifo(told)
        pid, master = pty.fork()
        if pid == 0:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            _become(
                "import pathlib\nprint('up')\nthis.reloaded.append(lambda: "
                f"pathlib.Path({str(told)!r}).write_text(str(this.draining.is_set())))\n" + WAIT_FOR_BOTH
            )
        with os.fdopen(master, "rb", buffering=0) as terminal:
            assert b"up" in terminal.read(100)
        assert told.read_text() == "False"
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _become(body: str) -> NoReturn:
    """Run in place of the forked test process."""
    os.environ |= {"OPENAI_API_KEY": "k", "REDIS_URL": "redis://127.0.0.1:1", "DRAIN_SECONDS": "0.2"}
    os.execv(sys.executable, [sys.executable, "-u", "-c", process_program("worker", body)])  # noqa: S606 - none is needed

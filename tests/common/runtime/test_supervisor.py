from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from common.net.ports import listen_socket, port_of
from tests.common.runtime.programs import serve_program

REPOSITORY = Path(__file__).resolve().parents[3]

DISPATCHER = """
    metrics.dispatcher().redis_up.set(1)
    listener = ports.listen_socket("0.0.0.0", config.port, variable="PORT", reuse_port=True)
    admin_listener = ports.listen_socket("0.0.0.0", config.admin_port, variable="ADMIN_PORT", reuse_port=True)
    async def answer(_reader, writer):
        writer.write(metrics.render()[0])
        writer.close()
    server = await asyncio.start_server(answer, sock=admin_listener)
    log.info("up", role="dispatcher", redis_url=config.redis_url, drain_seconds=config.drain_seconds)
    this.ready()
    await this.draining.wait()
    log.info("draining", role="dispatcher")
    return 0
"""

WORKER = """
    metrics.worker().calls_active.set(3)
    log.info("up", role="worker", redis_url=config.redis_url, drain_seconds=config.drain_seconds,
             port=config.worker_port, address=config.worker_address, blas=os.environ["OPENBLAS_NUM_THREADS"])
    this.ready()
    await this.draining.wait()
    log.info("draining", role="worker")
    return 0
"""

BUSY_DISPATCHER = DISPATCHER.replace(
    "return 0",
    """await this.stopping.wait()
    log.info("cut")
    return 0""",
)

DEAF = """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    this.ready()
    log.info("up")
    await asyncio.Event().wait()
"""


def with_limits(**limits: float) -> str:
    """Return statements that give `serve` these limits."""
    return f"""
import functools
limits = supervisor.SupervisorLimits(**{limits!r})
supervisor.run = functools.partial(supervisor.run, limits=limits)
"""


# Longer than any pause of a child that works, on a busy machine too.
IMPATIENT = with_limits(max_silence_seconds=3.0)


class Serve:
    """A `serve` with children of the test, and their log lines."""

    def __init__(self, tmp_path: Path, dispatcher: str, worker: str, before: str, **variables: object) -> None:
        self.temporary = tmp_path / "tmp"
        self.temporary.mkdir(exist_ok=True)
        settings = {
            "OPENAI_API_KEY": "k",
            "PORT": 0,
            "ADMIN_PORT": 0,
            "WORKERS": 2,
            "TMPDIR": self.temporary,
        }
        self.lines: list[dict[str, Any]] = []
        self.told: list[str] = []
        self.family: set[psutil.Process] = set()
        # `serve` itself limits BLAS's threads, without the limit of the tests.
        inherited = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
        self._process = subprocess.Popen(
            [sys.executable, "-c", serve_program(dispatcher, worker, before)],
            env=inherited | {name: str(value) for name, value in (settings | variables).items()},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid

    def wait_for(self, event: str, **fields: object) -> dict[str, Any]:
        """Return the next line of this event; those before it are kept in `lines`."""
        assert self._process.stderr is not None
        wanted = {"event": event, **fields}
        for text in self._process.stderr:
            if not text.startswith("{"):
                self.told.append(text.rstrip("\n"))
                continue
            line = json.loads(text)
            self.lines.append(line)
            if wanted.items() <= line.items():
                self.look()
                return dict(line)
        raise AssertionError(f"ended without {wanted}: {self.told} {self.lines}")

    def up(self) -> dict[str, Any]:
        """Wait for `serving` and for all first children; return the line of `serving`."""
        serving = self.wait_for("serving")
        while len(self.events("up")) < serving["workers"] + serving["dispatchers"]:
            self.wait_for("up")
        return serving

    def events(self, event: str) -> list[dict[str, Any]]:
        """Return the lines of this event so far."""
        return [line for line in self.lines if line["event"] == event]

    def look(self) -> list[psutil.Process]:
        """Return the children, and add them to `family`."""
        try:
            children: list[psutil.Process] = psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        self.family |= set(children)
        return children

    def children(self, word: str) -> list[psutil.Process]:
        """Return the children with this word in their command."""
        found = []
        for child in self.look():
            with contextlib.suppress(psutil.Error):  # it ended just now
                if any(word in argument for argument in child.cmdline()):
                    found.append(child)
        return found

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> int:
        """Waits for the end and returns the exit code. Nothing may be left."""
        assert self._process.stderr is not None
        for text in self._process.stderr:
            if text.startswith("{"):
                self.lines.append(json.loads(text))
            else:
                self.told.append(text.rstrip("\n"))
        code = self._process.wait(60)
        assert [process for process in self.family if process.is_running()] == []
        return code

    def kill(self) -> None:
        assert self._process.stderr is not None
        self._process.kill()
        self._process.wait()
        self._process.stderr.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Serve]]:
    """Starts a `serve`; nothing is left of it when the test ends."""
    started: list[Serve] = []

    def start(
        dispatcher: str = DISPATCHER, worker: str = WORKER, before: str = "pass", **variables: object
    ) -> Serve:
        started.append(Serve(tmp_path, dispatcher, worker, before, **variables))
        return started[-1]

    yield start
    for each in started:
        each.kill()


def answer(port: int) -> dict[str, float]:
    """Return the values in the answer of a port."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection, connection.makefile() as text:
        return {
            name: float(value)
            for name, value in (
                line.rsplit(" ", 1) for line in text.read().splitlines() if not line.startswith("#")
            )
        }


def test_everything_starts_and_one_line_says_so(serve: Callable[..., Serve]) -> None:
    service = serve(DISPATCHERS=2, DRAIN_SECONDS=20)
    line = service.up()
    assert line["process"] == "serve"
    assert (line["workers"], line["dispatchers"], line["redis"]) == (2, 2, "embedded")
    assert 0 < line["port"] != line["admin_port"] > 0
    ups = {line["process"]: line for line in service.events("up")}
    assert set(ups) == {"dispatcher-0", "dispatcher-1", "worker-0", "worker-1"}
    (redis_url,) = {line["redis_url"] for line in ups.values()}
    with redis.Redis.from_url(redis_url) as client:
        assert client.ping()
    # Time is left for them to end after they have cut their calls.
    assert {line["drain_seconds"] for line in ups.values()} == {15}
    assert (ups["worker-0"]["port"], ups["worker-0"]["address"], ups["worker-0"]["blas"]) == (0, "127.0.0.1", "1")
    assert len(service.look()) == 5
    service.signal(signal.SIGTERM)
    assert service.end() == 0


def test_the_embedded_redis_is_out_of_reach_of_other_users(serve: Callable[..., Serve]) -> None:
    service = serve()
    service.up()
    (redis_url,) = {line["redis_url"] for line in service.events("up")}
    assert redis_url.startswith("unix://")
    folder = Path(redis_url.removeprefix("unix://")).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (process,) = service.children("embedded_redis")
    assert process.net_connections("inet") == []


def test_the_embedded_redis_has_a_short_path_for_a_long_tmpdir(
    serve: Callable[..., Serve], tmp_path: Path
) -> None:
    long = tmp_path / ("x" * 108)
    long.mkdir()
    service = serve(TMPDIR=long)
    service.up()
    (redis_url,) = {line["redis_url"] for line in service.events("up")}
    socket_folder = Path(redis_url.removeprefix("unix://")).parent
    with redis.Redis.from_url(redis_url) as client:
        assert client.ping()
    service.signal(signal.SIGTERM)
    assert service.end() == 0
    assert [*long.iterdir()] == []
    assert not socket_folder.exists()


def test_no_short_path_for_the_embedded_redis_is_one_line(serve: Callable[..., Serve], tmp_path: Path) -> None:
    long = tmp_path / ("x" * 108)
    long.mkdir()
    service = serve(TMPDIR=long, before="supervisor.SHORT_FOLDER = supervisor.Path('/proc')")
    assert service.end() == os.EX_CONFIG
    (line,) = service.told
    assert line.startswith(f"avr-sts-openai: the embedded Redis cannot listen on {long}/avr-sts-serve-")
    assert "redis.sock: the path is longer than 103 bytes. Set REDIS_URL, or TMPDIR to a shorter path" in line
    assert [*long.iterdir()] == []


def test_each_child_has_the_secrets_of_its_role_alone(serve: Callable[..., Serve]) -> None:
    token = "a-token-of-this-test"
    secrets = dict.fromkeys(("OPENAI_API_KEY", "STS_TOKEN", "ADMIN_TOKEN", "CLUSTER_TOKEN"), token)
    service = serve(WORKERS=1, OPENAI_MODEL="gpt-realtime-2", CRM_URL="http://crm", **secrets)
    service.up()
    dispatcher, worker, redis_process = (
        service.children(word)[0].environ() for word in ("Role('dispatcher')", "Role('worker')", "embedded_redis")
    )
    assert {name for name in secrets if name in dispatcher} == {"STS_TOKEN", "ADMIN_TOKEN", "CLUSTER_TOKEN"}
    assert {name for name in secrets if name in worker} == {"OPENAI_API_KEY", "CLUSTER_TOKEN"}
    assert token not in redis_process.values()
    assert (worker["OPENAI_MODEL"], worker["CRM_URL"], redis_process["PATH"]) == (
        "gpt-realtime-2",
        "http://crm",
        os.environ["PATH"],
    )


def test_tools_that_all_may_change_are_one_warning(serve: Callable[..., Serve], tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    tools.chmod(0o777)
    service = serve(TOOLS_DIR=tools)
    service.up()
    warnings = [line for line in service.lines if line["level"] == "warning" and "TOOLS_DIR" in line["event"]]
    assert [line["process"] for line in warnings] == ["serve"]
    assert f"{tools} (mode 0777, all)" in warnings[0]["event"]


def test_each_notice_is_logged_once_for_all_processes(
    serve: Callable[..., Serve], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text("no line at all\n")
    service = serve(OPENAI_VOICE="nova", OPENAI_VOCE="ash", AMI_URL="undefined", PYTHONPATH=REPOSITORY)
    service.up()
    service.signal(signal.SIGTERM)
    assert service.end() == 0
    warnings = [
        (line["process"], line["event"].split(" ")[0]) for line in service.lines if line["level"] == "warning"
    ]
    assert sorted(warnings) == [
        ("serve", ".env:"),
        ("serve", "AMI_URL='undefined'"),
        ("serve", "OPENAI_VOCE"),
        ("serve", "OPENAI_VOICE='nova'"),
    ]
    assert service.told == []


def test_a_redis_of_the_operators_is_used(serve: Callable[..., Serve], redis_server: str) -> None:
    service = serve(REDIS_URL=redis_server)
    assert service.up()["redis"] == "external"
    assert {line["redis_url"] for line in service.events("up")} == {redis_server}
    assert service.children("embedded_redis") == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_dispatchers_then_workers_then_redis(
    serve: Callable[..., Serve], number: signal.Signals
) -> None:
    service = serve(WORKERS=1)
    port = service.up()["port"]
    service.signal(number)
    assert service.end() == 0
    # Each process writes its lines by a thread: their order is that of their times.
    lines = sorted(service.lines, key=lambda line: str(line["timestamp"]))
    assert [
        (line["event"], line["process"])
        for line in lines
        # A service that another program killed may have left a folder.
        if line["event"] not in {"up", "serving", "left-over temporary folder removed"}
    ] == [
        ("stopping", "serve"),
        ("draining", "dispatcher-0"),
        ("draining", "worker-0"),
        ("stopped", "serve"),
    ]
    assert list(service.temporary.iterdir()) == []
    listen_socket("0.0.0.0", port, variable="PORT").close()


def test_children_told_to_end_with_their_parent_stay_ended(
    serve: Callable[..., Serve],
) -> None:
    service = serve()
    service.up()
    service.signal(signal.SIGTERM)
    for child in service.look():
        with contextlib.suppress(psutil.NoSuchProcess):
            child.terminate()
    assert service.end() == 0
    assert len(service.events("up")) == 3


def test_running_calls_are_cut_before_the_deadline(serve: Callable[..., Serve]) -> None:
    service = serve(BUSY_DISPATCHER, DRAIN_SECONDS=8)
    service.wait_for("serving")
    service.signal(signal.SIGTERM)
    service.wait_for("cut")
    assert service.end() == 0


def test_a_child_with_blocked_threads_ends_in_time(serve: Callable[..., Serve]) -> None:
    blocked = "\n    thread = asyncio.ensure_future(asyncio.to_thread(threading.Event().wait))"
    service = serve(
        "\n    import threading" + blocked + DISPATCHER,
        "\n    import threading" + blocked + WORKER,
        DRAIN_SECONDS=3600,
    )
    service.up()
    service.signal(signal.SIGTERM)
    assert service.end() == 0
    assert [line["killed"] for line in service.events("stopped")] == [0]
    assert service.events("process hung") == []


def test_a_child_that_ignores_signals_is_killed_in_time(serve: Callable[..., Serve]) -> None:
    service = serve(DEAF, DEAF, DRAIN_SECONDS=1)
    service.wait_for("serving")
    service.signal(signal.SIGTERM)
    assert service.end() == 1
    killed = {line["child"] for line in service.events("process killed")}
    assert {"dispatcher-0", "worker-0", "worker-1"} <= killed
    assert list(service.temporary.iterdir()) == []


def test_a_second_signal_ends_everything_now(serve: Callable[..., Serve]) -> None:
    service = serve(BUSY_DISPATCHER, DRAIN_SECONDS=3600)
    service.wait_for("serving")
    for process in service.children("embedded_redis"):
        process.suspend()
    service.signal(signal.SIGTERM)
    service.wait_for("draining")
    service.signal(signal.SIGTERM)
    assert service.end() == 1
    assert [line["event"] for line in service.lines if line["process"] == "serve"][-2:] == ["stopping", "stopped"]
    assert list(service.temporary.iterdir()) == []


def test_a_second_ctrl_c_ends_everything_with_one_line(serve: Callable[..., Serve]) -> None:
    service = serve(BUSY_DISPATCHER, DRAIN_SECONDS=3600)
    service.up()
    service.signal(signal.SIGINT)
    service.wait_for("draining")
    for _ in range(4):  # an impatient operator presses Ctrl-C several times
        service.signal(signal.SIGINT)
    assert service.end() == 130
    assert service.told == []
    said = [line["event"] for line in service.lines if line["process"] == "serve"]
    assert said == ["serving", "stopping", "interrupted"]
    assert list(service.temporary.iterdir()) == []


@pytest.mark.parametrize("suspended", [False, True])
def test_children_go_with_a_parent_that_is_killed(serve: Callable[..., Serve], suspended: bool) -> None:
    service = serve()
    service.up()
    children = service.look()
    assert len(children) == 4
    if suspended:
        for child in children:
            child.suspend()
    service.kill()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []


@pytest.mark.parametrize("word", ["Role('worker')", "Role('dispatcher')"])
def test_a_dead_child_is_restarted_at_the_same_address(serve: Callable[..., Serve], word: str) -> None:
    service = serve(WORKERS=1)
    ports = service.up()
    (victim,) = service.children(word)
    victim.kill()
    ended = service.wait_for("process ended")
    assert ended["status"] == "SIGKILL"
    assert service.wait_for("up")["process"] == ended["child"]
    (successor,) = service.children(word)
    assert successor.pid != victim.pid

    restarts = 1 if "worker" in word else 0
    samples = answer(ports["admin_port"])
    assert samples["avr_sts_worker_restarts_total"] == restarts
    assert samples["avr_sts_calls_active"] == 3
    service.signal(signal.SIGTERM)
    assert service.end() == 0


def test_a_hung_child_is_killed_and_replaced(serve: Callable[..., Serve]) -> None:
    hang = "\n    signal.signal(signal.SIGUSR2, lambda *_: threading.Event().wait())"
    service = serve(worker="\n    import threading" + hang + WORKER, before=IMPATIENT, WORKERS=1)
    ports = service.up()
    (dispatcher,), (worker,), (redis_process,) = (
        service.children(word) for word in ("Role('dispatcher')", "Role('worker')", "embedded_redis")
    )
    dispatcher.suspend()
    redis_process.suspend()
    worker.send_signal(signal.SIGUSR2)
    hung = {service.wait_for("process hung")["child"] for _ in range(3)}
    assert hung == {"dispatcher-0", "worker-0", "redis"}
    while len(service.events("up")) < 4:
        service.wait_for("up")
    while len(service.events("process ended")) < 3:
        service.wait_for("process ended")
    ended = {line["child"]: line["status"] for line in service.events("process ended")}
    assert ended == dict.fromkeys(hung, "SIGKILL")
    assert answer(ports["admin_port"])["avr_sts_worker_restarts_total"] == 1
    (redis_url,) = {line["redis_url"] for line in service.events("up")}
    with redis.Redis.from_url(
        redis_url, retry=redis.retry.Retry(redis.backoff.ConstantBackoff(0.1), 300)
    ) as client:
        assert client.ping()
    service.signal(signal.SIGTERM)
    assert service.end() == 0


def test_a_child_that_hangs_while_draining_is_killed(serve: Callable[..., Serve]) -> None:
    service = serve(BUSY_DISPATCHER, before=IMPATIENT, DRAIN_SECONDS=3600, WORKERS=1)
    service.up()
    (dispatcher,) = service.children("Role('dispatcher')")
    service.signal(signal.SIGTERM)
    service.wait_for("draining", process="dispatcher-0")
    dispatcher.suspend()
    assert service.wait_for("process hung")["child"] == "dispatcher-0"
    assert service.end() == 0


def test_gauges_of_a_dead_worker_go_and_its_counters_stay(serve: Callable[..., Serve], tmp_path: Path) -> None:
    once = f"""
    if this.child.index == 1 and os.path.exists({str(tmp_path / "mark")!r}):
        log.info("up", role="successor")
        await this.draining.wait()
        return 0
    metrics.worker().upstream_errors.inc("server_error")
"""
    service = serve(worker=once + WORKER)
    admin_port = service.up()["admin_port"]
    assert answer(admin_port)["avr_sts_calls_active"] == 6
    (tmp_path / "mark").touch()
    for worker in service.children("Role('worker')"):
        if worker.environ()["AVR_STS_INDEX"] == "1":
            worker.kill()
    service.wait_for("up", role="successor")
    samples = answer(admin_port)
    assert samples["avr_sts_calls_active"] == 3
    assert samples['avr_sts_upstream_errors_total{code="server_error",key="ours"}'] == 2


def test_the_embedded_redis_comes_back_at_the_same_address(serve: Callable[..., Serve]) -> None:
    service = serve()
    service.wait_for("serving")
    url = service.events("up")[0]["redis_url"]
    (before,) = service.children("embedded_redis")
    before.kill()
    service.wait_for("process ended", child="redis")
    with redis.Redis.from_url(url, retry=redis.retry.Retry(redis.backoff.ConstantBackoff(0.1), 300)) as client:
        assert client.ping()
    (after,) = service.children("embedded_redis")
    assert after.pid != before.pid


def test_a_redis_that_does_not_start_is_one_line(serve: Callable[..., Serve]) -> None:
    service = serve(before=with_limits(redis_start_seconds=0))
    assert service.end() == 1
    assert service.told == ["avr-sts-openai: the embedded Redis did not start within 0 s: set REDIS_URL"]
    assert list(service.temporary.iterdir()) == []


def test_folders_of_killed_services_are_removed_at_start(serve: Callable[..., Serve]) -> None:
    killed = serve()
    killed.up()
    (left,) = killed.temporary.iterdir()
    children = killed.look()
    killed.kill()
    psutil.wait_procs(children, timeout=60)
    assert left.exists()

    running = serve()
    running.up()
    assert not left.exists()
    (used,) = running.temporary.iterdir()
    other = serve()
    other.up()
    assert used.exists()
    assert len([*other.temporary.iterdir()]) == 2


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        ("import tempfile; tempfile.tempdir = '/proc'", "/proc: No such file or directory"),
        (
            "import tempfile; tempfile._candidate_tempdir_list = lambda: ['/proc/1', '/proc/2']",
            "No usable temporary directory found in ['/proc/1', '/proc/2']",
        ),
    ],
)
def test_no_writable_temporary_folder_is_one_line(serve: Callable[..., Serve], before: str, reason: str) -> None:
    service = serve(before=before)
    assert service.end() == os.EX_CONFIG
    assert service.told == [
        f"avr-sts-openai: no temporary folder can be made: {reason}; "
        "set TMPDIR to a folder that this user may write to"
    ]


@pytest.mark.parametrize("variable", ["PORT", "ADMIN_PORT"])
def test_a_taken_port_is_one_line_and_starts_nothing(serve: Callable[..., Serve], variable: str) -> None:
    with listen_socket("0.0.0.0", 0, variable="", reuse_port=True) as taken:
        service = serve(**{variable: port_of(taken)})
        assert service.end() == os.EX_CONFIG
        (line,) = service.told
        assert line.startswith(f"avr-sts-openai: {variable}={port_of(taken)} is taken")
    assert service.lines == []


def test_a_child_without_its_settings_ends_the_start(serve: Callable[..., Serve]) -> None:
    service = serve(worker=f"sys.exit({os.EX_CONFIG})", dispatcher="await this.draining.wait()\nreturn 0")
    assert service.end() == os.EX_CONFIG
    assert service.events("serving") == []


def test_no_child_ends_a_serving_parent(serve: Callable[..., Serve]) -> None:
    service = serve(worker="\n    signal.signal(signal.SIGUSR1, lambda *_: os._exit(78))" + WORKER, WORKERS=1)
    service.up()
    (worker,) = service.children("Role('worker')")
    worker.send_signal(signal.SIGUSR1)
    service.wait_for("process ended", status="exit 78")
    service.wait_for("up", role="worker")
    service.signal(signal.SIGTERM)
    assert service.end() == 0


def test_a_signal_during_the_start_ends_serve(serve: Callable[..., Serve]) -> None:
    service = serve(dispatcher="await this.draining.wait()\nreturn 0")
    service.wait_for("up", role="worker")
    service.signal(signal.SIGTERM)
    assert service.end() == 0
    assert service.events("serving") == []

"""Programs of the Compose files, run as plain processes: the maker of the token, the page's proxy, alerts."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from pydantic import SecretStr

from common.net.ports import port_of, reserve_port
from common.settings.roles import Role
from common.settings.settings import Settings
from simulator.avr.core import place_call
from simulator.realtime.server import RealtimeSimulator
from tests.docker.image import REPOSITORY
from tests.grafana.server import Prometheus
from tests.helpers import eventually, needed_program
from tests.scenarios.processes import PATIENCE_SECONDS, Cluster

COMPOSE = REPOSITORY / "compose"
PAGE = "http://localhost:9080"


# The token of the page


def _make_token(file: Path, **variables: str) -> str:
    """Run the one-shot container's command, and return what it prints."""
    run = subprocess.run(
        ["/bin/sh", COMPOSE / "admin-token.sh", file, PAGE],
        env={"PATH": os.environ["PATH"], "ADMIN_TOKEN": "", "ADMIN_TOKEN_SECRET": os.devnull, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stderr == ""
    return run.stdout


def test_first_start_makes_a_token_and_prints_it_once(tmp_path: Path) -> None:
    file = tmp_path / "admin-token"
    printed = _make_token(file)
    token = file.read_text("utf-8").strip()
    assert re.fullmatch(r"[0-9a-f]{64}", token)
    assert printed.count(token) == 1
    assert PAGE in printed
    assert not re.search(rf"http\S*{token}", printed), "a URL with a token stays in histories and logs"
    again = _make_token(file)
    assert token not in again
    assert PAGE in again
    assert file.read_text("utf-8").strip() == token
    settings = Settings.parse({"OPENAI_API_KEY": "k", "ADMIN_TOKEN_FILE": str(file)}, Role.SERVE)
    assert settings.admin_token == SecretStr(token)


def test_token_can_be_read_by_owner_and_group_alone(tmp_path: Path) -> None:
    _make_token(tmp_path / "admin-token")
    assert stat.S_IMODE((tmp_path / "admin-token").stat().st_mode) == 0o640
    assert [each.name for each in tmp_path.iterdir()] == ["admin-token"]


def test_token_of_the_operator_replaces_the_made_one(tmp_path: Path) -> None:
    file, secret = tmp_path / "admin-token", tmp_path / "secret"
    _make_token(file)
    printed = _make_token(file, ADMIN_TOKEN="token-of-the-environment")
    assert file.read_text("utf-8") == "token-of-the-environment\n"
    secret.write_text("token-of-the-file\n", "utf-8")
    printed += _make_token(file, ADMIN_TOKEN="token-of-the-environment", ADMIN_TOKEN_SECRET=str(secret))
    assert file.read_text("utf-8") == "token-of-the-file\n"
    assert "token-of" not in printed


# The proxy of the page


@contextlib.asynccontextmanager
async def _page(admin_ports: list[int], folder: Path) -> AsyncIterator[str]:
    """Run haproxy with compose/page.cfg; Docker's DNS is replaced by the addresses of the dispatchers."""
    text = (COMPOSE / "page.cfg").read_text("utf-8")
    servers = "".join(f"    server dispatcher-{port} 127.0.0.1:{port}\n" for port in admin_ports)
    text, templates = re.subn(r"^    server-template .*\n", servers, text, flags=re.MULTILINE)
    with reserve_port("127.0.0.1", 0, variable="bind") as reserved:
        port = port_of(reserved)
        text, binds = re.subn(r"^    bind :9080$", f"    bind 127.0.0.1:{port}", text, flags=re.MULTILINE)
        assert (templates, binds) == (1, 1), "the file has another form than this test expects"
        (folder / "haproxy.cfg").write_text(text, "utf-8")
        process = await asyncio.create_subprocess_exec(
            *(needed_program("haproxy"), "-db", "-f", str(folder / "haproxy.cfg")),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()
            await process.wait()


@pytest.mark.system
def test_haproxy_accepts_the_file_with_dockers_dns() -> None:
    command = [needed_program("haproxy"), "-c", "-f", str(COMPOSE / "page.cfg")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.system
async def test_page_shows_the_calls_of_every_dispatcher(real_redis_url: str, tmp_path: Path) -> None:
    file = tmp_path / "admin-token"
    _make_token(file)
    token = file.read_text("utf-8").strip()
    async with RealtimeSimulator() as simulator, Cluster(real_redis_url, simulator.url) as cluster:
        await cluster.add_worker()
        for _ in range(2):
            await cluster.add_dispatcher(ADMIN_TOKEN_FILE=str(file))
        ports = [(await each.line("dispatcher listening"))["admin_port"] for each in cluster.dispatchers]
        calls = [await place_call(await cluster.url(number)) for number in range(2)]
        async with _page(ports, tmp_path) as url, aiohttp.ClientSession() as client:

            async def is_open() -> bool:
                with contextlib.suppress(aiohttp.ClientError):  # haproxy does not listen yet
                    async with client.get(url) as response:
                        return response.status == 200
                return False

            await eventually(is_open, PATIENCE_SECONDS)
            async with client.get(f"{url}/calls") as response:
                assert response.status == 401
            given = {"Authorization": f"Bearer {token}"}
            wanted = {call.uuid for call in calls}

            async def shows_all() -> bool:
                async with client.get(f"{url}/calls", headers=given) as response:
                    assert response.status == 200
                    return {call["uuid"] for call in await response.json()} == wanted

            await eventually(shows_all, PATIENCE_SECONDS)
            # Events come through at once, whichever dispatcher has the call.
            for uuid in wanted:
                async with client.get(f"{url}/calls/{uuid}/events", headers=given) as response:
                    assert response.status == 200
                    assert await asyncio.wait_for(response.content.readline(), PATIENCE_SECONDS)
        for call in calls:
            await call.hang_up()


# Alerts


@contextlib.contextmanager
def _alert_log(folder: Path) -> Iterator[tuple[int, Path]]:
    """Run the receiver on a free port, and yield the port and the file of its output."""
    output = folder / "alerts.log"
    with output.open("w", encoding="utf-8") as log:
        process = subprocess.Popen([sys.executable, "-P", COMPOSE / "alert_log.py", "0"], stdout=log)
        try:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while "\n" not in output.read_text("utf-8") and time.monotonic() < deadline:
                assert process.poll() is None
                time.sleep(0.02)
            yield json.loads(output.read_text("utf-8").splitlines()[0])["listening"], output
        finally:
            process.kill()
            process.wait()


def _post(port: int, body: bytes, length: int | None = None) -> int:
    """Send a message, which may announce another length than it has, and return the status."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)) as connection:
        announced = {"Content-Length": str(len(body) if length is None else length)}
        connection.request("POST", "/", body, announced)
        return connection.getresponse().status


def test_receiver_writes_a_line_for_each_alert(tmp_path: Path) -> None:
    alert = {
        "status": "firing",
        "startsAt": "2026-11-30T00:00:00Z",
        "labels": {"alertname": "AvrStsNoWorkers", "severity": "critical"},
        "annotations": {"summary": "No workers"},
    }
    with _alert_log(tmp_path) as (port, output):
        assert _post(port, json.dumps({"version": "4", "alerts": [alert] * 150}).encode()) == 200
        for wrong in (b"", b"[]", b"{}", b'{"alerts": [1]}', b'{"alerts": 1}', b"\xff"):
            assert _post(port, wrong) == 400
        assert _post(port, b"{}", length=(1 << 20) + 1) == 413
        written = [json.loads(line) for line in output.read_text("utf-8").splitlines()][1:]
    assert len(written) == 101
    assert written[0] == {
        "alert": "AvrStsNoWorkers",
        "status": "firing",
        "since": "2026-11-30T00:00:00Z",
        "labels": {"severity": "critical"},
        "summary": "No workers",
    }
    assert written[-1] == {"omitted": 50}


@contextlib.asynccontextmanager
async def _alertmanager(config: dict[str, Any], folder: Path) -> AsyncIterator[str]:
    """Run Debian's Alertmanager on a free port, and yield its address."""
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(config), "utf-8")
    with reserve_port("127.0.0.1", 0, variable="alertmanager") as reserved:
        address = f"127.0.0.1:{port_of(reserved)}"
    process = await asyncio.create_subprocess_exec(
        needed_program("prometheus-alertmanager"),
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield address
    finally:
        process.kill()
        await process.wait()


def _impatient(config: dict[str, Any], port: int) -> dict[str, Any]:
    """Return the configuration with a receiver of the test, and without waiting for more alerts of a group."""
    route = {**config["route"], "group_wait": "1s", "routes": []}
    (receiver,) = config["receivers"]
    (hook,) = receiver["webhook_configs"]
    hook = {**hook, "url": f"http://127.0.0.1:{port}/"}
    return {**config, "route": route, "receivers": [{**receiver, "webhook_configs": [hook]}]}


@pytest.mark.system
def test_alertmanager_accepts_its_configuration() -> None:
    command = [needed_program("amtool"), "check-config", str(COMPOSE / "alertmanager.yml")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


@pytest.mark.system
async def test_alert_of_prometheus_reaches_the_receiver_and_inhibits(tmp_path: Path) -> None:
    config = yaml.safe_load((COMPOSE / "alertmanager.yml").read_text("utf-8"))
    # Prometheus knows Alertmanager 5 s after its start, and sends an alert again after a minute.
    rules = [
        {"alert": name, "expr": "vector(1)", "for": "8s", "labels": {"severity": severity, "namespace": namespace}}
        for name, severity, namespace in (
            ("AvrStsNoWorkers", "critical", "compose"),
            ("AvrStsTurnsSlow", "warning", "compose"),
            ("AvrStsTurnsSlow", "warning", "elsewhere"),
        )
    ]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "test", "rules": rules}]}), "utf-8")
    program = needed_program("prometheus")
    with _alert_log(tmp_path) as (port, output):
        async with _alertmanager(_impatient(config, port), tmp_path) as address:
            peers = yaml.safe_load((COMPOSE / "prometheus.yml").read_text("utf-8"))["alerting"]
            peers["alertmanagers"][0]["static_configs"][0]["targets"] = [address]
            (tmp_path / "prometheus").mkdir()
            settings = {
                "global": {"evaluation_interval": "1s"},
                "rule_files": [str(tmp_path / "rules.yaml")],
                "alerting": peers,
            }
            with await asyncio.to_thread(Prometheus, program, tmp_path / "prometheus", settings):

                def told() -> set[tuple[str, str]]:
                    lines = [json.loads(line) for line in output.read_text("utf-8").splitlines()[1:]]
                    return {(line["alert"], line["labels"]["namespace"]) for line in lines}

                wanted = {("AvrStsNoWorkers", "compose"), ("AvrStsTurnsSlow", "elsewhere")}
                await eventually(lambda: told() >= wanted, 3 * PATIENCE_SECONDS)
                async with (
                    aiohttp.ClientSession() as client,
                    client.get(f"http://{address}/api/v2/alerts?inhibited=true&active=false") as response,
                ):
                    silent = [
                        (each["labels"]["alertname"], each["labels"]["namespace"])
                        for each in await response.json()
                    ]
                assert silent == [("AvrStsTurnsSlow", "compose")]
                assert told() == wanted

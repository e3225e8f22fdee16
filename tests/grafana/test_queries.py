"""All queries of all panels and rules, at a real Prometheus that has scraped a real run of the service.

The run has `serve` and a cluster side by side, so that each query meets both cases. One has labels for namespace
and pod, and a port for each process; the other has neither, and one port for all processes.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from grafana import alerting
from grafana.dashboard import Dashboard
from grafana.generate import DASHBOARDS
from grafana.rule import Alert, Recording, When
from simulator.avr.core import SimulatedCall, place_call
from simulator.realtime.server import RealtimeSimulator
from simulator.realtime.settings import SimulatorSettings, ToolCall
from tests.grafana.hours_tool import TOOL
from tests.grafana.server import Prometheus, configuration, seen
from tests.scenarios.processes import KEY, PATIENCE_SECONDS, Cluster, ServiceProcess
from tests.scenarios.tones import tone

pytestmark = pytest.mark.system

NAMESPACE = "voice"
NUMBERS = ("4930123456", "600600600")
SPEECH = tone(700, 0.8)
BEHAVIOUR = SimulatorSettings(
    greeting_words=2,
    words=6,
    speed=20.0,
    tool_calls=(ToolCall(1, "opening_hours"),),
    transcription_delay_seconds=0,
)

# Grafana's own variables. The run is shorter than a minute.
RANGES = {"$__rate_interval": "30s", "$__range": "1m"}
ALL = RANGES | {"$namespace": ".*", "$pod": ".*"}
ONE = RANGES | {"$namespace": NAMESPACE, "$pod": ".+"}

# Quantiles without observations are not numbers: only a fault would make some. Their series exist.
NEEDS_A_FAULT = ("avr_sts_recovery_seconds", "namespace:avr_sts_recovery_seconds:p95_15m")


@dataclass(frozen=True, slots=True)
class Scraped:
    """The state of Prometheus at the end of the run."""

    prometheus: Prometheus
    at_seconds: float
    secrets: tuple[str, ...]
    """Return uuids and numbers of the run's calls."""

    def values(self, expr: str, variables: dict[str, str]) -> list[float]:
        """Return the result of a query."""
        for name, value in variables.items():
            expr = expr.replace(name, value)
        return self.prometheus.query(expr, self.at_seconds)


@pytest.fixture(scope="module")
def scraped(prometheus: str, redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    """Run once for all tests: calls with tools, keys and interruptions, a broken call, and a worker that dies."""
    directory = tmp_path_factory.mktemp("prometheus")
    servers: list[Prometheus] = []
    try:
        yield asyncio.run(_run(prometheus, redis_server, directory, servers))
    finally:
        for server in servers:
            server.__exit__()


async def _run(program: str, redis_url: str, directory: Path, servers: list[Prometheus]) -> Scraped:
    tools = directory / "tools"
    tools.mkdir()
    (tools / "hours.py").write_text(TOOL)
    async with (
        RealtimeSimulator(BEHAVIOUR) as simulator,
        Cluster(redis_url, simulator.url, TOOLS_DIR=tools) as cluster,
    ):
        _, serve = await asyncio.gather(cluster.start(workers=2), _serve(simulator, tools))
        try:
            line = await serve.line("serving")
            targets = {"serve": line["admin_port"]}
            for role, processes in (("dispatcher", cluster.dispatchers), ("worker", cluster.workers)):
                for number, process in enumerate(processes):
                    targets[f"{role}-{number}"] = (await process.line(f"{role} listening"))["admin_port"]
            labels = {name: {} if name == "serve" else {"namespace": NAMESPACE, "pod": name} for name in targets}
            config = configuration(directory, targets, labels)
            server = await asyncio.to_thread(Prometheus, program, directory, config)
            servers.append(server)
            await seen(server, "count(up == 1) == 4")
            urls = [f"ws://127.0.0.1:{line['port']}/", await cluster.url()]
            calls = await _calls(simulator, urls, server, cluster.workers[0].pid)
            at_seconds = await _scraped_again(server)
        finally:
            await serve.kill()
    return Scraped(server, at_seconds, (*(call.uuid for call in calls), *NUMBERS))


async def _serve(simulator: RealtimeSimulator, tools: Path) -> ServiceProcess:
    serve = await ServiceProcess.start(
        "serve",
        PORT=0,
        ADMIN_PORT=0,
        WORKERS=2,
        TOOLS_DIR=tools,
        OPENAI_API_KEY=KEY,
        OPENAI_BASE_URL=simulator.url,
    )
    await serve.line("serving")
    return serve


async def _calls(
    simulator: RealtimeSimulator, urls: list[str], server: Prometheus, worker_pid: int
) -> list[SimulatedCall]:
    metadata = {"from": NUMBERS[0], "to": NUMBERS[1]}
    calls = [await place_call(url, metadata=metadata, dtmf="12#") for url in urls for _ in range(3)]
    await asyncio.gather(*(_converse(call) for call in calls))
    for session in simulator.sessions[::2]:
        simulator.faults.error(session)
    await calls[0].hang_up()
    await calls[-1].hang_up()
    for each in (
        "sum(avr_sts_interruptions_total) >= 6",
        "sum(avr_sts_tool_calls_total) >= 6",
        "sum(avr_sts_upstream_errors_total) >= 3",
        "min(sum by (namespace) (avr_sts_session_duration_seconds_count)) >= 1",
    ):
        await seen(server, each)
    os.kill(worker_pid, signal.SIGKILL)
    simulator.faults.drop(simulator.sessions[0])
    await seen(server, "count(up == 0) == 1")
    return calls


async def _converse(call: SimulatedCall) -> None:
    """Ask a question that needs a tool, and interrupt its answer."""

    async def spoken(times: int) -> None:
        await call.wait_for(
            lambda c: sum(t.role == "agent" for t in c.transcripts) >= times, timeout_seconds=PATIENCE_SECONDS
        )

    await spoken(1)
    await call.say(SPEECH)
    heard = len(call.received_pcm)
    await call.wait_for(lambda c: len(c.received_pcm) > heard, timeout_seconds=PATIENCE_SECONDS)
    await call.say(SPEECH)
    await call.wait_for(lambda c: c.interruptions, timeout_seconds=PATIENCE_SECONDS)


async def _scraped_again(server: Prometheus) -> float:
    """Wait until Prometheus has scraped and evaluated all events so far."""
    since = time.time() + 1
    await seen(server, f"min(timestamp(avr_sts_redis_up)) > {since}")
    await seen(server, f"min(timestamp(namespace:avr_sts_calls_load:ratio)) > {since + 1}")
    return time.time()


def _targets(dashboard: Dashboard) -> Iterator[Any]:
    for panel in dashboard.wire()["panels"]:
        for target in panel.get("targets", []):
            yield pytest.param(target["expr"], id=f"{dashboard.name}: {panel['title']} {target['refId']}")


QUERIES = [target for dashboard in DASHBOARDS for target in _targets(dashboard)]
FIGURES = [
    pytest.param(when, id=f"{alert.name}: {number}")
    for alert in alerting.ALERTS
    for number, when in enumerate(when for case in alert.cases for when in case)
]


def _returns_data(values: list[float], expr: str) -> bool:
    if any(name in expr for name in NEEDS_A_FAULT):
        return bool(values)
    return any(not math.isnan(value) for value in values)


@pytest.mark.parametrize("expr", QUERIES)
def test_a_panel_shows_data_of_all(scraped: Scraped, expr: str) -> None:
    assert _returns_data(scraped.values(expr, ALL), expr)


@pytest.mark.parametrize("expr", QUERIES)
def test_a_panel_shows_data_of_one_namespace(scraped: Scraped, expr: str) -> None:
    assert _returns_data(scraped.values(expr, ONE), expr)


@pytest.mark.parametrize("recording", alerting.RECORDINGS, ids=lambda recording: recording.name)
def test_a_recording_rule_records(scraped: Scraped, recording: Recording) -> None:
    assert _returns_data(scraped.values(recording.expr, {}), recording.expr)
    assert _returns_data(scraped.values(recording.name, {}), recording.name)


@pytest.mark.parametrize("when", FIGURES)
def test_series_of_an_alert_exist(scraped: Scraped, when: When) -> None:
    assert _returns_data(scraped.values(when.expr, {}), when.expr)


@pytest.mark.parametrize("alert", alerting.ALERTS, ids=lambda alert: alert.name)
def test_prometheus_evaluates_an_alert(scraped: Scraped, alert: Alert) -> None:
    groups = scraped.prometheus.get("/api/v1/rules")["groups"]
    (rule,) = [rule for group in groups for rule in group["rules"] if rule["name"] == alert.name]
    assert rule["health"] == "ok", rule.get("lastError")
    assert not rule.get("lastError")


def test_variables_offer_the_existing_values(scraped: Scraped) -> None:
    metric = "avr_sts_event_loop_lag_seconds_count"
    assert all(
        metric in variable["query"]["query"]
        for dashboard in DASHBOARDS
        for variable in dashboard.wire()["templating"]["list"]
        if variable["type"] == "query"
    )
    offered = {
        name: scraped.prometheus.get(f"/api/v1/label/{name}/values", **{"match[]": metric})
        for name in ("namespace", "pod")
    }
    assert offered == {"namespace": [NAMESPACE], "pod": ["dispatcher-0", "worker-0", "worker-1"]}


def test_no_series_carries_a_call(scraped: Scraped) -> None:
    series = scraped.prometheus.get("/api/v1/series", **{"match[]": '{__name__=~"avr_sts_.+"}'})
    values = {value for labels in series for value in labels.values()}
    assert len(series) > 500
    assert not [value for value in values for secret in scraped.secrets if secret in value]

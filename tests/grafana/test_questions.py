"""The questions of docs/questions.md, asked on a running cluster with a real Prometheus.

`python -m pytest tests/grafana/test_questions.py -m system -s` shows each answer with its time.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from common.observe.call_outcome import EndReason
from common.runtime.release import RELEASE
from grafana.generate import DASHBOARDS
from simulator.avr.core import SimulatedCall, place_call
from simulator.realtime.server import RealtimeSimulator
from simulator.realtime.settings import SimulatorSettings, ToolCall
from tests.docs.blocks import document
from tests.grafana.hours_tool import TOOL
from tests.grafana.server import Prometheus, configuration, seen
from tests.helpers import eventually
from tests.scenarios.conversations import converse
from tests.scenarios.processes import PATIENCE_SECONDS, Cluster, worker_id

pytestmark = pytest.mark.system

BEHAVIOUR: Final = SimulatorSettings(
    greeting_words=2,
    words=2,
    word_ms=200,
    tool_calls=(ToolCall(1, "opening_hours"),),
    transcription_delay_seconds=0,
)
ROW: Final = re.compile(r"^\| (\d+) \| (.+?) \| (.+?) \| `(.+)` \|$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Question:
    """A row of the page."""

    number: int
    text: str
    place: str
    ask: str


QUESTIONS: Final = [
    Question(int(row[1]), row[2], row[3], row[4]) for row in ROW.finditer(document("questions.md"))
]


@dataclass(slots=True)
class Night:
    """A cluster after an eventful hour, and what is known of it."""

    prometheus: Prometheus
    admin_url: str
    going_on: SimulatedCall
    ended: SimulatedCall
    failed: SimulatedCall

    def answer(self, question: Question) -> Any:
        """Return the JSON of a request, its text, or the samples of a query by their labels."""
        if question.ask.startswith("GET "):
            return self._request(question)
        result = self.prometheus.get("/api/v1/query", query=question.ask)["result"]
        return {tuple(each["metric"].values()): float(each["value"][1]) for each in result}

    def _request(self, question: Question) -> Any:
        call = self.going_on if question.number == 19 else self.ended
        path = question.ask.removeprefix("GET ").replace("{uuid}", call.uuid)
        with urllib.request.urlopen(self.admin_url + path, timeout=PATIENCE_SECONDS) as response:  # noqa: S310 - ours
            body = response.read()
            return (
                json.loads(body)
                if response.headers["Content-Type"].startswith("application/json")
                else body.decode()
            )


def _one(answer: dict[tuple[str, ...], float]) -> float:
    (value,) = answer.values()
    return value


EXPECTED: Final[dict[int, Callable[[Night, Any], bool]]] = {
    1: lambda _, text: text.startswith("ok\n"),
    2: lambda _, answer: 0 < _one(answer) < 0.1,
    3: lambda _, answer: _one(answer) == 0,
    4: lambda _, answer: answer.keys() == {(EndReason.UPSTREAM.value,)},
    5: lambda night, calls: [each["uuid"] for each in calls] == [night.failed.uuid],
    6: lambda _, answer: _one(answer) < 1,
    7: lambda _, answer: 0 < _one(answer) < 1,
    8: lambda _, answer: 0 < _one(answer) < 5,
    9: lambda _, answer: 0 < _one(answer) < 1,
    10: lambda _, answer: _one(answer) == 0,
    11: lambda _, answer: ("tokens",) in answer and 0 < max(answer.values()) <= 1,
    12: lambda _, workers: [(each["release"], each["problem"]) for each in workers] == [(RELEASE, None)] * 2,
    13: lambda _, answer: answer.keys() == {(RELEASE,)},
    14: lambda _, answer: _one(answer) >= 1,
    15: lambda _, answer: answer.keys() == {("end_of_speech",), ("model",), ("service",)},
    16: lambda _, answer: ("opening_hours",) in answer,
    17: lambda _, answer: _one(answer) >= 0,
    18: lambda _, answer: _one(answer) == 1,
    19: lambda night, call: (call["uuid"], call["state"]) == (night.going_on.uuid, "live") and call["pins"] == 2,
    20: lambda night, record: (record["uuid"], record["ending"]) == (night.ended.uuid, "completed"),
}


@pytest.fixture
async def night(prometheus: str, real_redis_url: str, tmp_path: Path) -> AsyncIterator[Night]:
    """Run a cluster in which a call ends well, a worker dies, and a call fails for want of the Realtime API."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "hours.py").write_text(TOOL)
    async with (
        RealtimeSimulator(BEHAVIOUR) as simulator,
        Cluster(
            real_redis_url,
            simulator.url,
            TOOLS_DIR=tools,
            TENANT_KEY="to",
            TENANTS="acme=100,globex=200",
            CALL_RECORDS_KEEP_SECONDS=3600,
            UPSTREAM_RETRY_SECONDS=1,
        ) as cluster,
    ):
        await cluster.start(workers=2)
        await cluster.add_worker()
        targets = {}
        for role, processes in (("dispatcher", cluster.dispatchers), ("worker", cluster.workers)):
            for number, process in enumerate(processes):
                targets[f"{role}-{number}"] = (await process.line(f"{role} listening"))["admin_port"]
        labels = {name: {"namespace": "voice", "pod": name} for name in targets}
        config = configuration(tmp_path, targets, labels)
        with await asyncio.to_thread(Prometheus, prometheus, tmp_path, config) as server:
            await seen(server, "count(up == 1) == 4")
            url = await cluster.url()
            ended, going_on = [await place_call(url, metadata={"to": "100"}) for _ in range(2)]
            for call in (ended, going_on):
                await call.wait_for(lambda c: c.transcripts, timeout_seconds=PATIENCE_SECONDS)
            await converse(ended, going_on)
            await ended.hang_up()
            await _lose_the_worker_of(cluster, going_on)
            await converse(going_on)
            simulator.faults.refuse(503, times=1000)
            failed = await place_call(url, metadata={"to": "200"})
            await asyncio.wait_for(failed.closed.wait(), PATIENCE_SECONDS)
            await seen(server, 'sum(avr_sts_calls_total{outcome="failed"}) == 1')
            await seen(server, "namespace:avr_sts_calls_error_budget:ratio < 1")
            yield Night(server, await cluster.admin_url(), going_on, ended, failed)


async def _lose_the_worker_of(cluster: Cluster, call: SimulatedCall) -> None:
    """Kill the worker that has the call, and wait until another one has it."""

    async def asked() -> dict[str, Any]:
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{await cluster.admin_url()}/calls/{call.uuid}") as response,
        ):
            row: dict[str, Any] = await response.json()
            return row

    name = (await asked())["worker"]
    (worker,) = [each for each in cluster.workers if await worker_id(each) == name]
    worker.signal(signal.SIGKILL)

    async def is_elsewhere() -> bool:
        row = await asked()
        # A dead worker cannot be asked for the conversation: 502, until another one has the call.
        return bool(row.get("worker", name) != name and row["state"] == "live")

    await eventually(is_elsewhere, PATIENCE_SECONDS)


def test_the_page_has_twenty_questions() -> None:
    assert [question.number for question in QUESTIONS] == list(range(1, 21))
    assert EXPECTED.keys() == {question.number for question in QUESTIONS}


def test_each_place_exists() -> None:
    titles = {
        (dashboard.title, panel["title"]) for dashboard in DASHBOARDS for panel in dashboard.wire()["panels"]
    }
    for question in QUESTIONS:
        if question.place not in ("the page", "call records"):
            dashboard, _, panel = question.place.partition(", ")
            assert (dashboard, panel.strip("*")) in titles, question.place


async def test_each_question_has_its_answer(night: Night) -> None:
    wrong = []
    for question in QUESTIONS:
        begin = time.perf_counter()
        answer = await asyncio.to_thread(night.answer, question)
        took_ms = 1000 * (time.perf_counter() - begin)
        sys.stdout.write(f"\n{question.number:2} {took_ms:5.1f} ms  {question.place}: {str(answer)[:120]!r}")
        if not EXPECTED[question.number](night, answer):
            wrong.append((question.number, question.text, answer))
    assert not wrong
    await night.going_on.hang_up()

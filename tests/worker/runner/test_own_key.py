"""Whose key met an error of the Realtime API, and whether the worker's own key works."""

from __future__ import annotations

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from common.observe import metrics
from common.observe.metrics import KeyOwner
from simulator.realtime.server import RealtimeSimulator
from simulator.realtime.settings import SimulatorSettings
from tests.worker.call_desk import KEY, QUICK, Desk, begun, call_to, counted
from worker.runner.own_key import OwnKey, SessionKey

ANOTHER = "sk-another-0123456789abcdef"
ONLY_ANOTHER = SimulatorSettings(api_key=ANOTHER)


def gauge(name: str) -> float | None:
    lines = metrics.render()[0].decode().splitlines()
    return next((float(line.split()[-1]) for line in lines if line.rpartition(" ")[0] == f"avr_sts_{name}"), None)


def refusals(key: str) -> float:
    return counted("upstream_errors", code="invalid_api_key", key=key)


async def test_a_refused_key_of_the_worker_is_a_problem() -> None:
    before = refusals("ours")
    async with RealtimeSimulator(ONLY_ANOTHER) as simulator, call_to(simulator.url) as desk:
        await desk.ending()
        assert desk.shared.own_key.problem == "invalid_api_key"
    assert gauge("upstream_refused") == 1
    assert refusals("ours") == before + 1


async def test_a_refused_key_of_a_call_is_no_problem() -> None:
    ours, theirs = refusals("ours"), refusals("call")
    async with (
        RealtimeSimulator(SimulatorSettings(api_key=KEY)) as simulator,
        call_to(simulator.url) as first,
        begun(Desk(first.shared, provider_config={"api_key": ANOTHER})) as desk,
    ):
        await desk.ending()
        assert desk.shared.own_key.problem == ""
    assert gauge("upstream_refused") == 0
    assert (refusals("ours"), refusals("call")) == (ours, theirs + 1)


async def test_an_answer_ends_the_problem() -> None:
    async with RealtimeSimulator(QUICK) as simulator, call_to(simulator.url) as desk:
        desk.shared.own_key.refused("insufficient_quota")
        with capture_logs() as lines:
            await desk.wait_for(lambda _: desk.shared.own_key.problem == "")
        assert gauge("upstream_refused") == 0
        assert [line["code"] for line in lines if line["event"] == "own key accepted again"] == [
            "insufficient_quota"
        ]


def test_a_calls_own_key_says_nothing_of_the_workers() -> None:
    own_key = OwnKey(metrics.worker())
    metrics.worker().rate_limit("tokens", 0.25)
    key = SessionKey(own_key, metrics.worker())
    key.owner = KeyOwner.CALL
    own_key.refused("insufficient_quota")
    key.answered()
    key.failed("http_401")
    key.remaining("tokens", 100, 100)
    assert own_key.problem == "insufficient_quota"
    assert gauge('upstream_rate_limit_remaining{limit="tokens"}') == 0.25


def test_an_error_beside_the_answer_is_no_refusal() -> None:
    own_key = OwnKey(metrics.worker())
    key = SessionKey(own_key, metrics.worker())
    before = counted("upstream_errors", code="model_not_found", key="ours")
    key.error("model_not_found")
    key.failed("server_error")
    assert own_key.problem == ""
    assert counted("upstream_errors", code="model_not_found", key="ours") == before + 1


@pytest.mark.parametrize(
    ("number", "whole", "share"), [(10_000, 40_000, 0.25), (12, 10, 1.0), (0, 10, 0.0), (0, 0, 0.0), (5, 0, 0.75)]
)
def test_the_rest_of_a_rate_limit_is_a_share_of_it(number: float, whole: float, share: float) -> None:
    metrics.worker().rate_limit("requests", 0.75)  # stays where the whole is not known
    SessionKey(OwnKey(metrics.worker()), metrics.worker()).remaining("requests", number, whole)
    assert gauge('upstream_rate_limit_remaining{limit="requests"}') == share


def test_another_key_is_not_refused_yet() -> None:
    own_key = OwnKey(metrics.worker())
    own_key.use(SecretStr("sk-first"))
    own_key.refused("http_401")
    own_key.use(SecretStr("sk-first"))
    assert own_key.problem == "http_401", "other secrets were replaced"
    own_key.use(SecretStr("sk-second"))
    assert (own_key.problem, gauge("upstream_refused")) == ("", 0)


def test_a_problem_that_lasts_is_one_log_line() -> None:
    own_key = OwnKey(metrics.worker())
    with capture_logs() as lines:
        for code in ("http_401", "http_401", "http_403"):
            own_key.refused(code)
    assert [line["code"] for line in lines] == ["http_401", "http_403"]

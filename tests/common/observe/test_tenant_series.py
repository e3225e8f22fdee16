from __future__ import annotations

from collections.abc import Callable

import pytest

from common.observe.call_outcome import OUTCOMES
from tests.common.speaker import Speaker

NUMBER = "4930123456"
PAIRS = sum(map(len, OUTCOMES.values()))
ENDED = "metrics.dispatcher().call_ended(outcome.CallOutcome.FAILED, outcome.EndReason.UPSTREAM, {!r})"


@pytest.fixture(params=[None, "a-slot"])
def process(start: Callable[..., Speaker], request: pytest.FixtureRequest) -> Speaker:
    """A process, alone and with values that it shares with others."""
    return start(request.param)


def calls(process: Speaker) -> dict[str, float]:
    return {name: value for name, value in process.scrape().items() if "calls_total" in name}


def ended(process: Speaker, *tenants: str) -> None:
    outcome = "__import__('common.observe.call_outcome', fromlist=['EndReason'])"
    process.tell(*(ENDED.replace("outcome.", f"{outcome}.").format(tenant) for tenant in tenants))


def failed(process: Speaker) -> dict[str, float]:
    """Return the failed calls by tenant, of tenants that had one."""
    return {
        name.split("[")[-1][:-1]: value
        for name, value in calls(process).items()
        if "[failed]" in name and "[upstream]" in name and value
    }


def test_series_of_known_tenants_exist_from_the_start(process: Speaker) -> None:
    process.tell("metrics.dispatcher().expect_tenants('acme', 'globex', 'other')")
    process.tell("metrics.worker().expect_model('m')", "metrics.worker().expect_tenants('acme', 'other')")
    samples = process.scrape()
    assert len(calls(process)) == 3 * PAIRS
    assert len([name for name in samples if "call_duration_seconds" in name]) == 3 * 15
    assert {name for name in samples if "cost_usd" in name} == {
        f"avr_sts_cost_usd_total[{model}][{tenant}]" for model in ("m", "other") for tenant in ("acme", "other")
    }
    assert not any(samples.values())


def test_without_tenants_the_label_is_empty(process: Speaker) -> None:
    process.tell("metrics.dispatcher().expect_tenants('')", "metrics.worker().cost_usd.inc('m', '', 2)")
    ended(process, "")
    assert len(calls(process)) == PAIRS
    assert failed(process) == {"": 1}
    assert process.scrape()["avr_sts_cost_usd_total[m][]"] == 2


def test_a_tenant_of_no_setting_has_series_up_to_the_bound(process: Speaker) -> None:
    listed = [f"t{number}" for number in range(38)]
    process.tell(f"metrics.dispatcher().expect_tenants(*{listed!r}, 'other')")
    ended(process, "t0", "umbrella", NUMBER, "acme", "one-too-many", "other", "umbrella")
    assert failed(process) == {"t0": 1, "umbrella": 2, "acme": 1, "other": 3}
    assert len(calls(process)) == 41 * PAIRS


def test_calls_from_the_page_never_count_as_other(process: Speaker) -> None:
    listed = [f"t{number}" for number in range(40)]
    process.tell(f"metrics.dispatcher().expect_tenants(*{listed!r}, 'other')")
    ended(process, "one-too-many", "page", "page")
    assert failed(process) == {"other": 1, "page": 2}


def test_cost_has_a_bounded_number_of_tenants(process: Speaker) -> None:
    process.tell("metrics.worker().expect_model('m')", "metrics.worker().expect_tenants('acme', 'other')")
    process.tell("[metrics.worker().cost_usd.inc('m', f't{n}', 1) for n in range(100)]")
    process.tell(f"metrics.worker().cost_usd.inc('m', {NUMBER!r}, 1)")
    costs = {name: value for name, value in process.scrape().items() if "cost_usd_total[m]" in name}
    assert len(costs) == 41
    assert costs["avr_sts_cost_usd_total[m][other]"] == 100 - 39 + 1
    assert NUMBER not in str(costs)

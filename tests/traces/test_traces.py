"""The cores do what they did: on the inputs of scenario tests, and in sequences made from seeds.

`python -m tests.traces check` runs all of them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest

from common.runtime.backoff import Backoff
from tests.traces import frozen
from tests.traces.compare import difference_of_scenario, difference_of_seed
from tests.traces.frozen import SEEDS, WHOLE, Mark
from tests.traces.names import NAMES
from tests.traces.run import CORES, generated, replayed, without_logs

# Spread over all; `make test` has the time for so many.
CHECKED = range(0, SEEDS, 20)
PARTS = 4


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with without_logs():
        yield


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("core", CORES)
def test_generated_sequences_are_as_they_were(core: str, part: int) -> None:
    marks, whole = frozen.read_marks(core), frozen.read_whole(core)
    assert (len(marks), len(whole)) == (SEEDS, WHOLE)
    for seed in CHECKED[part::PARTS]:
        known = whole[seed] if seed < WHOLE else None
        difference = difference_of_seed(core, seed, marks[seed], known)
        assert difference is None, difference


@pytest.mark.parametrize("core", CORES)
def test_recorded_scenarios_are_as_they_were(core: str) -> None:
    scenarios = frozen.read_scenarios(core)
    assert scenarios
    for name, trace in scenarios.items():
        difference = difference_of_scenario(core, name, trace)
        assert difference is None, difference


@pytest.mark.parametrize("core", CORES)
def test_whole_traces_belong_to_their_marks(core: str) -> None:
    marks = frozen.read_marks(core)
    for seed, trace in enumerate(frozen.read_whole(core)):
        assert Mark.of(trace) == marks[seed]


@pytest.mark.parametrize("core", CORES)
def test_different_output_is_shown(core: str) -> None:
    whole = copy.deepcopy(frozen.read_whole(core)[0])
    step = next(number for number, (outputs, _) in enumerate(whole.results) if number > 5 and outputs)
    whole.results[step][0][0] = ["action", "Doctored", {}]
    difference = difference_of_seed(core, 0, Mark.of(whole), whole)
    assert difference is not None
    assert f"seed 0: step {step} differs" in difference
    assert '- was ["action","Doctored",{}]' in difference
    assert f"{step - 1:4} " in difference


@pytest.mark.parametrize("core", CORES)
def test_different_state_is_found(core: str) -> None:
    trace = copy.deepcopy(generated(core, 1))
    trace.results[-1][1] = ["another"]
    difference = difference_of_scenario(core, "doctored", trace)
    assert difference is not None
    assert f"step {len(trace.inputs)} differs" in difference


@pytest.mark.interpreted
def test_changed_core_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.session.agent.answering.RETRY_BACKOFF", Backoff(0.9, 3.0))
    marks = frozen.read_marks("worker")
    assert any(difference_of_seed("worker", seed, marks[seed]) is not None for seed in range(100))


def test_renamed_class_has_its_old_name_in_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = frozen.read_whole("worker")[0]
    monkeypatch.setitem(NAMES, "Ready", "Prepared")
    difference = difference_of_seed("worker", 0, frozen.read_marks("worker")[0], trace)
    assert difference is not None
    assert '"Prepared"' in difference


@pytest.mark.parametrize("core", CORES)
def test_a_sequence_is_the_same_each_time(core: str) -> None:
    first = generated(core, 3)
    assert generated(core, 3).to_json() == first.to_json()
    assert replayed(core, first.header, first.inputs).results == first.results

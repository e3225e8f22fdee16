"""What a real process records of its cores can be replayed, and shows the same."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

import common
from tests.traces.run import CORES, Trace, generated, replayed, without_logs

SEEDS = (3, 14)
_REPOSITORY = Path(__file__).resolve().parents[2]
_PROGRAM = """
import sys
from tests.traces import recorder
recorder.install(sys.argv[1])
from tests.traces.run import generated, without_logs
with without_logs():
    for seed in map(int, sys.argv[3:]):
        generated(sys.argv[2], seed)
"""
# Inputs that are no calls of the core's methods.
_OF_MEMORY = ("changes", "forgotten")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with without_logs():
        yield


def _recorded(folder: Path, core: str) -> list[Trace]:
    path = os.pathsep.join((str(Path(common.__file__).resolve().parents[1]), str(_REPOSITORY)))
    subprocess.run(
        [sys.executable, "-P", "-c", _PROGRAM, str(folder), core, *map(str, SEEDS)],
        env={**os.environ, "PYTHONPATH": path},
        check=True,
        timeout=60,
    )
    traces: list[Trace] = []
    for file in sorted(folder.iterdir(), key=lambda each: int(each.stem.rpartition("-")[2])):
        header, *inputs = map(orjson.loads, file.read_bytes().splitlines())
        traces.append(replayed(core, {**header, "seed": SEEDS[len(traces)]}, inputs))
    return traces


def _shape(trace: Trace) -> list[Any]:
    """Inputs, outputs and states without audio, which is another when it is made from its loudness."""
    shape = []
    for step, (outputs, state) in zip(trace.inputs, trace.results[1:], strict=True):
        if step[1] not in _OF_MEMORY and not any(output[0] == "unwanted" for output in outputs):
            shape.append(
                [
                    step[1],
                    [output[:2] if output[0] != "upstream" else output[1]["type"] for output in outputs],
                    state,
                ]
            )
    return shape


@pytest.mark.interpreted
@pytest.mark.parametrize("core", CORES)
def test_recorded_inputs_replay_as_they_were(core: str, tmp_path: Path) -> None:
    recorded = _recorded(tmp_path, core)
    assert len(recorded) == len(SEEDS)
    for seed, trace in zip(SEEDS, recorded, strict=True):
        assert _shape(trace) == _shape(generated(core, seed))

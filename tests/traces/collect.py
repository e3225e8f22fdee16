"""Chooses among recorded sessions and calls those that are kept: for each scenario test those that differ most."""

from __future__ import annotations

import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import orjson

from tests.traces import frozen
from tests.traces.run import CORES, Trace, replayed

# Compressed bytes of one core's traces.
MOST_BYTES: Final = 400_000
# Longer ones are kept only where a test has no other.
MOST_INPUTS: Final = 1200
# Of one test. Tests of some modules share a process, so that all are recorded as if by the first.
MOST_OF_A_TEST: Final = 3
MOST_OF_A_MODULE: Final = 60
_SHARED: Final = ("test_answers", "test_bad_input", "test_other_services", "test_session_updates")


def collect(folder: Path) -> dict[str, tuple[int, int]]:
    """Write the scenario traces of both cores; returns how many there are of each, and how many inputs."""
    made = {}
    for core in CORES:
        chosen = _within(MOST_BYTES, [trace for test in _tests(folder) for trace in _of_test(test, core)])
        traces = {name: trace for name, trace, _ in chosen}
        frozen.write_scenarios(core, traces)
        made[core] = (len(traces), sum(len(trace.inputs) for trace in traces.values()))
    return made


def _tests(folder: Path) -> list[Path]:
    """The folders of all tests, in those of the processes that ran them."""
    return sorted((each for each in folder.glob("*/test_*") if each.is_dir()), key=lambda each: each.name)


def _of_test(test: Path, core: str) -> Iterator[tuple[str, Trace, int]]:
    """The sessions or calls of one test that show the most, with a rank: the first is kept whatever its size."""
    traces = [trace for path in sorted(test.glob(f"{core}-*.jsonl")) if (trace := _read(path, core)) is not None]
    traces.sort(key=lambda trace: (len(trace.inputs) > MOST_INPUTS, -len(_kinds(trace)), len(trace.inputs)))
    seen: set[str] = set()
    rank = 0
    is_shared = test.name.startswith(_SHARED)
    for trace in traces:
        new = _kinds(trace) - seen
        most = MOST_OF_A_MODULE if is_shared else MOST_OF_A_TEST
        if not (new or is_shared) or rank == most or (rank and len(trace.inputs) > MOST_INPUTS):
            continue
        seen |= new
        yield f"{test.name}-{rank + 1}", trace, rank
        rank += 1


def _read(path: Path, core: str) -> Trace | None:
    lines = path.read_bytes().splitlines()
    if len(lines) < 2:
        return None
    header, *inputs = map(orjson.loads, lines)
    return replayed(core, header, inputs)


def _kinds(trace: Trace) -> set[str]:
    """What goes in and comes out, by its kind."""
    kinds = {":".join(str(each) for each in step[1:4] if isinstance(each, str)) for step in trace.inputs}
    kinds |= {
        str(step[2].get("type"))
        for step in trace.inputs
        if step[1] in ("event", "message") and isinstance(step[2], dict)
    }
    for outputs, state in trace.results:
        kinds |= {_kind(output) for output in outputs} | {f"state {state[0]}"}
    return kinds


def _kind(output: list[Any]) -> str:
    if output[0] == "upstream":
        return f"upstream {output[1]['type']}"
    if output[0] == "record":
        return f"record {output[-2]}"
    return " ".join(str(each) for each in output[:2] if isinstance(each, str))


def _within(most_bytes: int, traces: list[tuple[str, Trace, int]]) -> list[tuple[str, Trace, int]]:
    """Drop the longest of those that are not the first of their test, until the rest is small enough."""
    sizes = {name: _size(trace) for name, trace, _ in traces}
    kept = {name: rank for name, _, rank in traces}
    for name in sorted(kept, key=lambda each: -sizes[each]):
        if sum(sizes[each] for each in kept) <= most_bytes:
            break
        if kept[name]:
            del kept[name]
    return [each for each in traces if each[0] in kept]


def _size(trace: Trace) -> int:
    return len(lzma.compress(orjson.dumps(trace.to_json())))

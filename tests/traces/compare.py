"""Compares what a core does with what it did, and describes the first difference."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any, Final

import orjson

from tests.traces.frozen import Mark
from tests.traces.run import Trace, generated, replayed

# Steps that are shown before the first difference.
STEPS_BEFORE: Final = 4
_MOST_CHARACTERS: Final = 2000


def difference_of_seed(core: str, seed: int, frozen: Mark, whole: Trace | None = None) -> str | None:
    """Run the sequence of a seed; return how it differs from the frozen one, None if it does not."""
    trace, fault = _run(lambda: generated(core, seed))
    if trace is None:
        return f"{core} seed {seed}: the sequence cannot be made any more\n{fault}"
    now = Mark.of(trace)
    if now.digest == frozen.digest:
        return None
    first = _first(frozen.marks, now.marks)
    return _described(f"{core} seed {seed}", trace, first, whole)


def difference_of_scenario(core: str, name: str, frozen: Trace) -> str | None:
    """Run the inputs of a scenario; return how the results differ from the frozen ones, None if they do not."""
    trace, fault = _run(lambda: replayed(core, frozen.header, frozen.inputs))
    if trace is None:
        return f"{core} {name}: the inputs cannot be given any more\n{fault}"
    if trace.results == frozen.results:
        return None
    pairs = zip(frozen.results, trace.results, strict=True)
    first = next(number for number, (was, is_now) in enumerate(pairs) if was != is_now)
    return _described(f"{core} {name}", trace, first, frozen)


def shown(trace: Trace, first: int = 0, last: int | None = None) -> str:
    """Return steps of a trace for people to read."""
    steps = [["made"], *trace.inputs]
    last = len(steps) if last is None else last
    return "\n".join(_step(number, steps[number], trace.results[number]) for number in range(first, last))


def _run(run: Callable[[], Trace]) -> tuple[Trace | None, str]:
    try:
        return run(), ""
    except Exception:
        return None, traceback.format_exc(limit=-4)


def _first(was: bytes, is_now: bytes) -> int:
    for number, (one, other) in enumerate(zip(was, is_now, strict=False)):
        if one != other:
            return number
    return min(len(was), len(is_now)) - 1


def _described(what: str, trace: Trace, first: int, frozen: Trace | None) -> str:
    before = shown(trace, max(0, first - STEPS_BEFORE), first)
    steps = [["made"], *trace.inputs]
    lines = [
        f"{what}: step {first} differs",
        before,
        "--- differs here ---",
        _cut(orjson.dumps(steps[first]).decode()),
    ]
    if frozen is not None and first < len(frozen.results):
        was = [["made"], *frozen.inputs][first]
        if was != steps[first]:
            lines.append(f"  input was {_cut(orjson.dumps(was).decode())}")
        lines += [_result("- was", frozen.results[first])]
    lines += [_result("+ is ", trace.results[first])]
    return "\n".join(line for line in lines if line)


def _step(number: int, step: list[Any], result: list[Any]) -> str:
    return f"{number:4} {_cut(orjson.dumps(step).decode())}\n{_result('    ', result)}"


def _result(head: str, result: list[Any]) -> str:
    outputs, state = result
    lines = [f"{head} {_cut(orjson.dumps(output, option=orjson.OPT_SORT_KEYS).decode())}" for output in outputs]
    return "\n".join([*lines, f"{head} state {orjson.dumps(state).decode()}"])


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}... ({len(text)} characters)"

"""Freezes what the cores do, or checks that they still do it.

    python -m tests.traces check                    run everything, and describe the differences
    python -m tests.traces freeze                   write the traces anew, those of the scenarios from their inputs
    python -m tests.traces show CORE SEED|SCENARIO  print what a core does now

Freeze only when the cores are meant to do something else from now on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Final

from tests.traces import frozen
from tests.traces.compare import difference_of_scenario, difference_of_seed, shown
from tests.traces.frozen import SEEDS, WHOLE, Mark
from tests.traces.run import CORES, generated, replayed, without_logs

MOST_SHOWN: Final = 5
_PROGRESS: Final = 500


def _freeze() -> int:
    for core in CORES:
        marks, whole = [], []
        for seed in range(SEEDS):
            trace = generated(core, seed)
            marks.append(Mark.of(trace))
            if seed < WHOLE:
                whole.append(trace)
            _progress(core, seed)
        frozen.write_marks(core, marks)
        frozen.write_whole(core, whole)
        scenarios = frozen.read_scenarios(core)
        frozen.write_scenarios(
            core, {name: replayed(core, trace.header, trace.inputs) for name, trace in scenarios.items()}
        )
    return 0


def _check() -> int:
    found = 0
    for difference in _differences():
        found += 1
        if found <= MOST_SHOWN:
            _say(f"{difference}\n")
    _say(f"{found} traces differ" if found else "all traces are as they were")
    return 1 if found else 0


def _differences() -> Iterator[str]:
    for core in CORES:
        for name, trace in frozen.read_scenarios(core).items():
            if (difference := difference_of_scenario(core, name, trace)) is not None:
                yield difference
        whole = frozen.read_whole(core)
        for seed, mark in enumerate(frozen.read_marks(core)):
            known = whole[seed] if seed < len(whole) else None
            if (difference := difference_of_seed(core, seed, mark, known)) is not None:
                yield difference
            _progress(core, seed)


def _progress(core: str, seed: int) -> None:
    if (seed + 1) % _PROGRESS == 0:
        _say(f"{core}: {seed + 1} sequences")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _show(core: str, which: str) -> int:
    if which.isdigit():
        trace = generated(core, int(which))
    else:
        known = frozen.read_scenarios(core)[which]
        trace = replayed(core, known.header, known.inputs)
    _say(shown(trace))
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.traces", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("freeze")
    commands.add_parser("check")
    show = commands.add_parser("show")
    show.add_argument("core", choices=list(CORES))
    show.add_argument("which")
    chosen = parser.parse_args()
    with without_logs():
        match chosen.command:
            case "freeze":
                return _freeze()
            case "check":
                return _check()
    return _show(chosen.core, chosen.which)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.mutants`: put random faults into the Sans-I/O cores, and see whether a test notices each.

Exit code 0, however many survive: a survivor is a question, and some mutants change no behaviour.
"""

from __future__ import annotations

import argparse
import random
import secrets
import sys
import tempfile
import time
from pathlib import Path

from tests.cores import MODULES, ROOT, ordered_tests
from tests.mutants.operators import Mutant, mutants_of
from tests.mutants.trial import SURVIVED, TrialTree

# A trial may take this many times as long as the tests without a fault.
_PATIENCE = 5


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def drawn(seed: int, number: int, modules: list[str]) -> list[tuple[str, Mutant]]:
    """Draw mutants: places in the modules' sources, and one fault for each, in the order of the files."""
    places: dict[tuple[str, int, int], list[Mutant]] = {}
    for module in modules:
        for mutant in mutants_of((ROOT / module).read_bytes()):
            places.setdefault((module, mutant.start, mutant.end), []).append(mutant)
    draw = random.Random(seed)
    chosen = draw.sample(list(places), min(number, len(places)))
    return [(place[0], draw.choice(places[place])) for place in sorted(chosen)]


def main() -> int:
    """Try the mutants, and name those that no test noticed."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--number", type=int, default=60, metavar="N", help="of mutants (default: 60)")
    parser.add_argument("--seed", type=int, metavar="N", help="repeats a run of the same sources (default: drawn)")
    parser.add_argument("--modules", nargs="+", metavar="PATH", help="(default: all modules of the cores)")
    arguments = parser.parse_args()
    seed = secrets.randbelow(1_000_000) if arguments.seed is None else arguments.seed
    mutants = drawn(seed, arguments.number, arguments.modules or MODULES)
    survivors = []
    began_seconds = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = TrialTree(ROOT, Path(folder, "tree"))
        tests = ordered_tests(mutants[0][0])
        sound = tree.run(tests, 600.0)
        if sound.is_killed:
            sys.exit(f"the tests fail without a fault: {sound.verdict}; mend them first")
        _say(f"seed {seed}: {len(mutants)} mutants; {len(tests)} files of tests take {sound.seconds:.0f} s")
        for index, (module, mutant) in enumerate(mutants, start=1):
            source = (ROOT / module).read_bytes()
            outcome = tree.try_mutant(module, mutant, ordered_tests(module), _PATIENCE * sound.seconds)
            line = f"{module}:{mutant.line}  {mutant.operator}: {mutant.described(source)}"
            _say(f"[{index}/{len(mutants)}] {outcome.seconds:4.0f} s  {line}  {outcome.verdict}")
            if outcome.verdict == SURVIVED:
                survivors.append(line)
    for line in survivors:
        _say(f"{SURVIVED}: {line}")
    killed = len(mutants) - len(survivors)
    _say(
        f"seed {seed}: {killed} of {len(mutants)} mutants killed ({killed / max(len(mutants), 1):.0%}),"
        f" {len(survivors)} survived, in {time.monotonic() - began_seconds:.0f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

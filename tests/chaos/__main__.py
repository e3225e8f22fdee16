"""`python -m tests.chaos`: a chaos run, and its table. The exit code is 1 if any promise was broken."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys

import uvloop

from tests.chaos.facts import FaultKind
from tests.chaos.run import QUIET_SECONDS, ChaosRun, Options

_NAMES = {kind.name.lower().replace("_", "-"): kind for kind in FaultKind}


# Time in which to check that Redis agrees with the processes.
_LEAST_QUIET_SECONDS = 7.0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--duration", type=float, default=60.0, metavar="S", help="time with faults (default: 60)")
    parser.add_argument("--calls", type=int, default=50, metavar="N", help="calls at once (default: 50)")
    parser.add_argument("--workers", type=int, default=3, metavar="N", help="(default: 3)")
    parser.add_argument("--dispatchers", type=int, default=2, metavar="N", help="(default: 2)")
    parser.add_argument("--seed", type=int, help="seed of all draws (default: a new one)")
    parser.add_argument(
        "--faults",
        default="all",
        metavar="KINDS",
        help=f"separated by commas, `all` or `none` (default: all): {', '.join(_NAMES)}",
    )
    return parser.parse_args()


def _kinds(text: str) -> tuple[FaultKind, ...]:
    if text == "all":
        return tuple(FaultKind)
    if text == "none":
        return ()
    unknown = [name for name in text.split(",") if name not in _NAMES]
    if unknown:
        sys.exit(f"there is no fault {unknown[0]!r}; there are {', '.join(_NAMES)}")
    return tuple(_NAMES[name] for name in text.split(","))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run, and print the result."""
    arguments = _arguments()
    kinds = _kinds(arguments.faults)
    options = Options(
        seed=secrets.randbelow(1_000_000) if arguments.seed is None else arguments.seed,
        calls=arguments.calls,
        duration_seconds=arguments.duration,
        workers=arguments.workers,
        dispatchers=arguments.dispatchers,
        kinds=kinds,
        quiet_seconds=max(_LEAST_QUIET_SECONDS, QUIET_SECONDS * len(kinds) / len(FaultKind)),
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        results = runner.run(ChaosRun(options, _say).run())
    _say(f"\nseed {options.seed}\n{results.table()}")
    return 1 if results.breaches else 0


if __name__ == "__main__":
    sys.exit(main())

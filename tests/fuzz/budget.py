"""The number of inputs of the fuzz tests, and their count.

`FUZZ_EXAMPLES` (`make fuzz`) is the number of examples of all tests together, drawn anew in each run. Without it,
a small share is taken, the same in each run, so that a failure in CI comes from the change and not from the draw.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import hypothesis

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
# The parts below add up to this number; `make test` takes a share of each.
WHOLE = 200_000
SHARE = 1 / 150
FEWEST = 20
PROGRESS_SECONDS = 5.0


class Tally:
    """Inputs by target: each message, record, event or chunk of bytes counts."""

    def __init__(self) -> None:
        self.inputs: Counter[str] = Counter()
        self._shown_seconds = time.monotonic()

    def took(self, target: str, inputs: int) -> None:
        """Count further inputs of a target."""
        self.inputs[target] += inputs
        now = time.monotonic()
        if EXAMPLES and now - self._shown_seconds >= PROGRESS_SECONDS:
            self._shown_seconds = now
            sys.stderr.write(f"  {self}\n")

    def __str__(self) -> str:
        each = ", ".join(f"{target} {count:,}" for target, count in sorted(self.inputs.items()))
        return f"{self.inputs.total():,} inputs: {each}"


TALLY = Tally()


def examples(part: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator for a test's share of the examples; `part` is its number of 200,000."""
    scaled = part * EXAMPLES // WHOLE if EXAMPLES else int(part * SHARE)
    return hypothesis.settings(
        max_examples=max(FEWEST, scaled),
        derandomize=not EXAMPLES,
        database=None if not EXAMPLES else hypothesis.settings().database,
        deadline=None,
        # A slow or large example is a matter of the machine or of the draw, not of the code.
        suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large],
    )

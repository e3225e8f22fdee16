"""How many inputs the fuzz tests throw, and the count of those that they threw.

`FUZZ_EXAMPLES` (`make fuzz`) is how many examples all of them take together, drawn anew in each run. Without it a
small share is taken, the same in each run: what fails in CI then is the change, not the draw.
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
# The parts below are of so many; in `make test` each is cut to a share of them.
WHOLE = 200_000
SHARE = 1 / 150
FEWEST = 20
PROGRESS_SECONDS = 5.0


class Tally:
    """Inputs by target: a message, a record, an event or a chunk of bytes is one."""

    def __init__(self) -> None:
        self.inputs: Counter[str] = Counter()
        self._shown_seconds = time.monotonic()

    def took(self, target: str, inputs: int) -> None:
        """A target has taken so many more."""
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
    """As many examples as this part of all; `part` is what the test takes of 200,000."""
    scaled = part * EXAMPLES // WHOLE if EXAMPLES else int(part * SHARE)
    return hypothesis.settings(
        max_examples=max(FEWEST, scaled),
        derandomize=not EXAMPLES,
        database=None if not EXAMPLES else hypothesis.settings().database,
        deadline=None,
        # A slow or a large example says something of the machine or of the draw, not of the code.
        suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large],
    )

"""Trials of mutants: a copy of the tree, with one fault at a time, in which the tests of the cores run."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.operators import Mutant

# What no test needs, or what is large.
_NOT_COPIED = (
    ".git",
    ".venv",
    "build",
    "node_modules",
    "demo-out",
    "*.egg-info",
    "__pycache__",
    ".*_cache",
    ".hypothesis",
)
# A mutant may never stop taking memory.
_MEMORY_BYTES = 4 << 30
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)

SURVIVED = "SURVIVED"
TIMED_OUT = "timeout"


@dataclass(frozen=True, slots=True)
class Outcome:
    """End of one trial.

    Attributes:
        verdict: `SURVIVED`, `TIMED_OUT`, or the test that failed.
        seconds: that the trial took.
    """

    verdict: str
    seconds: float

    @property
    def is_killed(self) -> bool:
        """Tell whether a test noticed the fault."""
        return self.verdict != SURVIVED


class TrialTree:
    """Copy of the project's tree, outside the repository."""

    def __init__(self, root: Path, copy: Path) -> None:
        self._copy = copy
        shutil.copytree(root, copy, ignore=shutil.ignore_patterns(*_NOT_COPIED), symlinks=True)

    def try_mutant(self, module: str, mutant: Mutant, tests: list[str], timeout_seconds: float) -> Outcome:
        """Run tests against a module with a fault, and put the module right again."""
        path = self._copy / module
        source = path.read_bytes()
        path.write_bytes(mutant.applied_to(source))
        try:
            return self.run(tests, timeout_seconds)
        finally:
            path.write_bytes(source)

    def run(self, tests: list[str], timeout_seconds: float) -> Outcome:
        """Run tests in the order given until one fails."""
        # An example found for one mutant would be tried first for the next.
        shutil.rmtree(self._copy / ".hypothesis", ignore_errors=True)
        began_seconds = time.monotonic()
        process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-B", "-m", "pytest", *tests),
                *("-x", "-q", "--tb=no", "--hypothesis-seed=0"),
                *("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:cloudcoil"),
            ],
            cwd=self._copy,
            env=os.environ | {"PYTHONPATH": str(self._copy)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        if sys.platform == "linux":
            resource.prlimit(process.pid, resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
        try:
            output, _ = process.communicate(timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            verdict = TIMED_OUT
        else:
            verdict = _verdict(process.returncode, output)
        return Outcome(verdict, time.monotonic() - began_seconds)


def _verdict(code: int, output: str) -> str:
    """Return what became of a run, by its exit code and output."""
    if code == 0:
        return SURVIVED
    if (failed := _FAILED.search(output)) is not None:
        return failed[1]
    if code < 0:
        return f"signal {-code}"
    raise RuntimeError(f"pytest ended with code {code} and named no test; its output ends with: {output[-2000:]}")

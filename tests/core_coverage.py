"""`python -m tests.core_coverage`: measure which lines and branches of the Sans-I/O cores their tests run.

Exit code 1 if a test fails, or if a module is below the floor. The sources are measured, not the compiled modules.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.cores import FLOOR_PERCENT, MODULES, RANDOM_TESTS, ROOT, core_tests


def below_floor(report: dict[str, Any], modules: list[str], floor_percent: float) -> list[str]:
    """Return a line for each module that a report of coverage.py shows below the floor, or does not show."""
    files = report["files"]
    lines = []
    for module in modules:
        if module not in files:
            lines.append(f"{module} is not measured; correct its path in pyproject.toml ([tool.coverage.run])")
        elif (percent := files[module]["summary"]["percent_covered"]) < floor_percent:
            lines.append(
                f"{module} is covered to {percent:.1f}%, below {floor_percent}%; add tests of what it does"
            )
    return lines


def main() -> int:
    """Run the tests, print the report, and check each module."""
    parser = argparse.ArgumentParser(prog="python -m tests.core_coverage", description=__doc__)
    parser.add_argument("--processes", default="2", metavar="N", help="that run the tests (default: 2)")
    processes = parser.parse_args().processes
    with tempfile.TemporaryDirectory(prefix="coverage-") as folder:
        report = Path(folder, "report.json")
        ran = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", *core_tests(), "-q"),
                *(f"--deselect={test}" for test in RANDOM_TESTS),
                *(f"--numprocesses={processes}", "--dist=worksteal"),
                *("--cov", "--cov-report=term-missing:skip-covered", f"--cov-report=json:{report}"),
            ],
            cwd=ROOT,
            check=False,
        )
        low = below_floor(json.loads(report.read_text()), MODULES, FLOOR_PERCENT) if report.exists() else []
    for line in low:
        sys.stdout.write(line + "\n")
    return 1 if ran.returncode or low else 0


if __name__ == "__main__":
    sys.exit(main())

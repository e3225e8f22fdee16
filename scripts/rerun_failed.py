"""Run the tests that failed last once more: `python -m scripts.rerun_failed FLAKY_LIST [PYTEST_ARGUMENT...]`.

Exits with pytest's code. Appends `FLAKY path::test` to the file FLAKY_LIST for each test that passes now.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

LAST_FAILED = Path(".pytest_cache/v/cache/lastfailed")


def last_failed() -> set[str]:
    """Return the tests that pytest remembers as failed."""
    return set(json.loads(LAST_FAILED.read_text())) if LAST_FAILED.exists() else set()


def main() -> int:
    """Run them, alone in one process, and list those that pass."""
    flaky_list, *arguments = sys.argv[1:]
    failed = last_failed()
    # Without failed tests, what failed is no test: pytest runs nothing and returns 5.
    command = [sys.executable, "-m", "pytest", "--last-failed", "--last-failed-no-failures=none", *arguments]
    code = subprocess.run(command, check=False).returncode  # noqa: S603 - CI's own arguments
    with Path(flaky_list).open("a") as file:
        file.writelines(f"FLAKY {test}\n" for test in sorted(failed - last_failed()))
    return code


if __name__ == "__main__":
    sys.exit(main())

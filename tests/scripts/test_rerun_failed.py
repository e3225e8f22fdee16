"""Tests run once more, in real runs of pytest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_REPOSITORY = Path(__file__).resolve().parents[2]
_TESTS = """
from pathlib import Path

def test_fails_once():
    seen = Path("seen")
    if not seen.exists():
        seen.touch()
        raise AssertionError

def test_passes():
    pass
"""
_ALWAYS_FAILS = """
def test_always_fails():
    raise AssertionError
"""


def _run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(_REPOSITORY), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=environment, check=False, capture_output=True, text=True
    )


def _fail_and_rerun(folder: Path, tests: str) -> tuple[subprocess.CompletedProcess[str], str]:
    """Return the second run and the list of flaky tests."""
    (folder / "test_some.py").write_text(tests)
    (folder / "pytest.ini").touch()
    assert _run(folder, "pytest", "--quiet").returncode == 1
    rerun = _run(folder, "scripts.rerun_failed", "flaky")
    return rerun, (folder / "flaky").read_text()


def test_test_that_fails_once_passes_and_is_listed(tmp_path: Path) -> None:
    rerun, flaky = _fail_and_rerun(tmp_path, _TESTS)
    assert rerun.returncode == 0
    assert flaky == "FLAKY test_some.py::test_fails_once\n"


def test_test_that_fails_twice_fails_and_is_not_listed(tmp_path: Path) -> None:
    rerun, flaky = _fail_and_rerun(tmp_path, _TESTS + _ALWAYS_FAILS)
    assert rerun.returncode == 1
    assert flaky == "FLAKY test_some.py::test_fails_once\n"
    assert "1 failed, 1 passed" in rerun.stdout


def test_failure_that_is_no_test_fails_again(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").touch()
    (tmp_path / "test_some.py").write_text(_TESTS)
    rerun = _run(tmp_path, "scripts.rerun_failed", "flaky")
    assert rerun.returncode == 5
    assert (tmp_path / "flaky").read_text() == ""

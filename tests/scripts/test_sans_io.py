"""The guard of Sans-I/O tests, in real runs of pytest."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sans_io import TESTS, WITH_IO

_CONFTEST = """
from pathlib import Path
from tests import sans_io

sans_io.TESTS = Path(__file__).parent

def pytest_configure(config):
    config.pluginmanager.register(sans_io)
"""

CONNECTS = "import socket; socket.socket().connect_ex(('127.0.0.1', 1))"
STARTS = "import subprocess, sys; subprocess.run([sys.executable, '-c', ''])"
STARTS_ON_UVLOOP = """
    import asyncio, sys, uvloop
    async def run():
        await (await asyncio.create_subprocess_exec(sys.executable, '-c', '')).wait()
    uvloop.run(run())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of tests, with the guard."""
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = sans_io: of this test\n")
    (tmp_path / "conftest.py").write_text(_CONFTEST)
    (tmp_path / "common").mkdir()
    return tmp_path


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(TESTS.parent), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rN", *arguments],
        cwd=folder,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("statement", "event"),
    [
        (CONNECTS, "socket.connect"),
        (STARTS, "subprocess.Popen"),
        (STARTS_ON_UVLOOP, "a child process"),
    ],
    ids=["connects", "starts", "starts on uvloop"],
)
def test_test_with_io_fails_and_says_why(folder: Path, statement: str, event: str) -> None:
    (folder / "common" / "test_some.py").write_text(f"def test_it():\n    {statement}\n")
    run = _run(folder)
    assert run.returncode == 1
    (line,) = re.findall(r"Failed: (.*test_it is no Sans-I/O test .*)", run.stdout)
    assert event in line
    assert line.endswith("name it in WITH_IO of tests/sans_io.py")


def test_fast_run_leaves_out_all_other_tests(folder: Path) -> None:
    (folder / "common" / "test_some.py").write_text("def test_it():\n    pass\n")
    (folder / "test_other.py").write_text("raise AssertionError('imported')\n")
    run = _run(folder, "-m", "sans_io")
    assert run.returncode == 0
    assert "1 passed" in run.stdout


@pytest.mark.parametrize("entry", WITH_IO)
def test_every_exception_exists(entry: str) -> None:
    path, _, name = entry.partition("::")
    assert (TESTS / path).exists()
    if name:
        assert f"def {name}(" in (TESTS / path).read_text()

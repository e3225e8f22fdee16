"""Has scenario tests record what goes into the cores of their processes; a plugin of pytest.

    RECORDED=FOLDER python -m pytest -p tests.traces.recording tests/scenarios
    python -m tests.traces collect FOLDER

The processes are given a folder on PYTHONPATH whose `sitecustomize` installs the recorder. The code of the service
knows nothing of it. Tests that run in several processes (xdist) have a folder each in FOLDER.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.scenarios import processes
from tests.traces.recorder import CURRENT

_FOLDER = Path(os.environ["RECORDED"]).resolve() / os.environ.get("PYTEST_XDIST_WORKER", "alone")


def pytest_configure() -> None:
    """Have all processes of tests recorded, also those that tests share."""
    hook = _FOLDER / "hook"
    hook.mkdir(parents=True, exist_ok=True)
    source = f"from tests.traces import recorder\n\nrecorder.install({str(_FOLDER)!r})\n"
    (hook / "sitecustomize.py").write_text(source, "utf-8")
    processes.PYTHONPATH = os.pathsep.join((str(hook), processes.PYTHONPATH))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Name the test for the cores that are made from now on."""
    test = re.sub(r"[^A-Za-z0-9_]+", "-", item.nodeid.rpartition("/")[2]).strip("-")
    written = _FOLDER / f"{CURRENT}.new"
    written.write_text(test, "utf-8")
    written.replace(_FOLDER / CURRENT)

"""Has scenario tests record what goes into the cores of their processes; a plugin of pytest.

    RECORDED=FOLDER python -m pytest -p tests.traces.recording tests/scenarios
    python -m tests.traces collect FOLDER

The processes are given a folder on PYTHONPATH whose `sitecustomize` installs the recorder. The code of the service
knows nothing of it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.scenarios import processes


@pytest.fixture(autouse=True)
def _recorded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    test = re.sub(r"[^A-Za-z0-9_]+", "-", request.node.nodeid.rpartition("/")[2]).strip("-")
    folder = Path(os.environ["RECORDED"]).resolve() / test
    hook = folder / "hook"
    hook.mkdir(parents=True, exist_ok=True)
    source = f"from tests.traces import recorder\n\nrecorder.install({str(folder)!r})\n"
    (hook / "sitecustomize.py").write_text(source, "utf-8")
    monkeypatch.setattr(processes, "PYTHONPATH", os.pathsep.join((str(hook), processes.PYTHONPATH)))

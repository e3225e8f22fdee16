"""Skip the chart's tests if Helm's engine is missing; fail in CI."""

from __future__ import annotations

import os
from importlib.util import find_spec

if find_spec("helm_python") is None and not os.environ.get("CI"):
    collect_ignore_glob = ["test_*.py"]  # the engine has no build for this machine

"""The programs that run tools, each with its command and its environment."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from worker.tools.environment import ToolEnvironment
from worker.tools.host_process import Program

_NODE_HOST: Final = Path(__file__).with_name("node") / "host.js"

# The child finds the same modules as this process. The folders of tools are not on its import path before all of
# the service has been imported.
_START_PYTHON: Final = """
import json, sys
sys.path[:] = json.loads(sys.argv[2])
from worker.tools.python_child import main
main()
"""


def node(executable: str, environment: ToolEnvironment) -> Program:
    """Return the program for tools in JavaScript.

    Args:
        executable: path of Node.
        environment: the environment of the tools.
    """
    variables = dict(environment.variables)
    modules = str(_NODE_HOST.with_name("node_modules"))
    variables["NODE_PATH"] = os.pathsep.join(filter(None, [variables.get("NODE_PATH"), modules]))
    # Without this, each call of dotenv's config() prints an advertisement.
    variables.setdefault("DOTENV_CONFIG_QUIET", "true")
    return Program("node", (executable, str(_NODE_HOST), ",".join(environment.withheld)), variables)


def python(directories: Iterable[Path], environment: ToolEnvironment) -> Program:
    """Return the program for tools in Python, which also checks the arguments of all tools.

    Args:
        directories: the directories of the tools; tools may import modules from these.
        environment: the environment of the tools.
    """
    here = json.dumps([str(Path(each).absolute()) for each in sys.path])
    folders = json.dumps([str(each) for each in directories])
    return Program(
        "python",
        (sys.executable, "-u", "-P", "-c", _START_PYTHON, ",".join(environment.withheld), here, folders),
        dict(environment.variables),
        tells_begun=True,
    )

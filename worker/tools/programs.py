"""The programs that run tools, each with its command and its environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from worker.tools.environment import ToolEnvironment
from worker.tools.host_process import Program

_NODE_HOST: Final = Path(__file__).with_name("node") / "host.js"

# The child finds the same modules as this process, and no other folder precedes them.
_START_PYTHON: Final = """
import sys
sys.path[:] = sys.argv[2:-1]
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
    here = [str(Path(each).absolute()) for each in sys.path]
    # The tools' directories come last, so that a tool cannot shadow a module of the service or of a library.
    modules = list(dict.fromkeys([*here, *map(str, directories)]))
    return Program(
        "python",
        (sys.executable, "-u", "-P", "-c", _START_PYTHON, ",".join(environment.withheld), *modules),
        dict(environment.variables),
        tells_begun=True,
    )

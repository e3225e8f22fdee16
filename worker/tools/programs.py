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

# With the modules of this process, wherever it has them from, and nothing else in front of them.
_START_PYTHON: Final = """
import sys
sys.path[:] = sys.argv[2:-1]
from worker.tools.python_child import main
main()
"""


def node(executable: str, environment: ToolEnvironment) -> Program:
    """Return the program for tools in JavaScript.

    Args:
        executable: Node.
        environment: what tools see.
    """
    variables = dict(environment.variables)
    modules = str(_NODE_HOST.with_name("node_modules"))
    variables["NODE_PATH"] = os.pathsep.join(filter(None, [variables.get("NODE_PATH"), modules]))
    variables.setdefault("DOTENV_CONFIG_QUIET", "true")  # else each config() prints an advertisement
    return Program("node", (executable, str(_NODE_HOST), ",".join(environment.withheld)), variables)


def python(directories: Iterable[Path], environment: ToolEnvironment) -> Program:
    """Return the program for tools in Python, which also checks the arguments of all tools.

    Args:
        directories: of the tools, which may import modules from there.
        environment: what tools see.
    """
    here = [str(Path(each).absolute()) for each in sys.path]
    # Last, so that no tool can stand in for a module of the service or of a library.
    modules = list(dict.fromkeys([*here, *map(str, directories)]))
    return Program(
        "python",
        (sys.executable, "-u", "-P", "-c", _START_PYTHON, ",".join(environment.withheld), *modules),
        dict(environment.variables),
        tells_begun=True,
    )

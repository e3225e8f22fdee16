"""The release of this code, which workers and dispatchers exchange, and how the code was built."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec
from typing import Final

RELEASE: Final = version("avr-sts-openai")

_SPEC: Final = find_spec("common.net.frames")
# Whether the call path is machine code (setup.py): either all of it or none.
COMPILED: Final = _SPEC is not None and not str(_SPEC.origin).endswith(".py")

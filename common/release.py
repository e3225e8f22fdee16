"""The release of this code, as workers and dispatchers tell it to each other."""

from __future__ import annotations

from importlib.metadata import version
from typing import Final

RELEASE: Final = version("avr-sts-openai")

"""The tree of errors is complete: each error of the service is part of it, and of its drawing."""

from __future__ import annotations

import importlib
import pkgutil
import re

import pytest

import common
import dispatcher
import worker
from common import errors
from common.errors import DependencyError, LocalError, PeerError, ServiceError
from worker.tools import errors as tool_errors

# Raised in the process of the operator's tools, for these tools: that process imports nothing of the service.
FOR_TOOLS = "worker.tools.caller_digits"


def own_exceptions() -> list[type[Exception]]:
    """Return every exception class of the service, by name. Signals that no `except Exception` sees are none."""
    found: dict[str, type[Exception]] = {}
    for package in (common, dispatcher, worker):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name == FOR_TOOLS:
                continue
            for value in vars(importlib.import_module(module.name)).values():
                if isinstance(value, type) and issubclass(value, Exception) and value.__module__ == module.name:
                    found[value.__name__] = value
    return [found[name] for name in sorted(found)]


EXCEPTIONS = own_exceptions()
DRAWN = set(re.findall(r"^[│├└─ ]*(\w+)", f"{errors.__doc__}\n{tool_errors.__doc__}", re.MULTILINE))


@pytest.mark.parametrize("error", EXCEPTIONS, ids=lambda error: error.__name__)
def test_exception_is_in_the_tree_and_drawn(error: type[Exception]) -> None:
    assert issubclass(error, ServiceError)
    assert error.__name__ in DRAWN


@pytest.mark.parametrize("error", EXCEPTIONS, ids=lambda error: error.__name__)
def test_exception_is_one_sides_fault(error: type[Exception]) -> None:
    assert sum(issubclass(error, side) for side in (LocalError, PeerError, DependencyError)) <= 1

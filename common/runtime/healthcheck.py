"""Health check of the service on this machine: the sub-command `healthcheck`, which the image's HEALTHCHECK runs.

The exit code is 0 if the admin port answers with 200, otherwise 1. The check runs every 30 s for as long as the
container does. It reads the environment itself and imports no other module of the service, to stay cheap.
"""

from __future__ import annotations

import argparse
import http.client
import os
from collections.abc import Mapping
from typing import Final

DEFAULT_PORT: Final = 9090
TIMEOUT_SECONDS: Final = 3.0


def answers(port: int, path: str) -> bool:
    """Return whether `GET path` on this machine's `port` is answered with 200 in time."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def admin_port(environment: Mapping[str, str]) -> int:
    """Return ADMIN_PORT, with or without the quotes that Compose's list form leaves around a value."""
    text = environment.get("ADMIN_PORT", "").strip().strip("\"'").strip()
    return int(text) if text.isdecimal() else DEFAULT_PORT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-command's arguments."""
    parser.add_argument(
        "path",
        nargs="?",
        choices=("/livez", "/readyz"),
        default="/livez",
        help="what to ask for: whether the service lives, or takes calls (default %(default)s)",
    )


def run(options: argparse.Namespace) -> int:
    """Run the check and return its exit code."""
    return 0 if answers(admin_port(os.environ), options.path) else 1

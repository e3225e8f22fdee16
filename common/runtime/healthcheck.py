"""The container's HEALTHCHECK: whether the service on this machine answers.

    python -m common.runtime.healthcheck [/livez | /readyz]

Exit code 0 if the admin port answers with 200, else 1. The module reads the environment itself and imports nothing
of
the service, which would cost more than the request: it runs every half minute as long as the container does.
"""

from __future__ import annotations

import http.client
import os
import sys
from collections.abc import Mapping, Sequence
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


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    return 0 if answers(admin_port(os.environ), arguments[0] if arguments else "/livez") else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

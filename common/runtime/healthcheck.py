"""Whether the service on this machine answers: the container's HEALTHCHECK.

    python -m common.runtime.healthcheck [/livez | /readyz]

Exit code 0 if the admin port answers with 200, else 1. It reads the environment itself and imports nothing of the
service, as that would cost more than the answer: it runs every half minute for as long as the container does.
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
    """Whether `GET path` on this machine's `port` is answered with 200 in time."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def admin_port(environment: Mapping[str, str]) -> int:
    """ADMIN_PORT, with or without the quotes that Compose's list form leaves around a value."""
    text = environment.get("ADMIN_PORT", "").strip().strip("\"'").strip()
    return int(text) if text.isdecimal() else DEFAULT_PORT


def main(arguments: Sequence[str]) -> int:
    """Runs the command and returns its exit code."""
    return 0 if answers(admin_port(os.environ), arguments[0] if arguments else "/livez") else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

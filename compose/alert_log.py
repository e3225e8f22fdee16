"""Receiver of Alertmanager's webhook that writes a JSON line for each alert: `python alert_log.py PORT`.

It is the receiver of docker-compose.yml until an operator names another one in compose/alertmanager.yml.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

MAX_BYTES: Final = 1 << 20
"""Maximum size of a message; a longer one is refused with 413."""

MAX_ALERTS: Final = 100
"""Maximum number of lines for one message; the last line counts the others."""

SECONDS: Final = 10.0
"""Time limit for each read of a connection."""


def lines(message: Any) -> Iterator[dict[str, Any]]:
    """Yield a line for each alert of a message of Alertmanager's webhook (version 4)."""
    alerts = message["alerts"]
    for alert in alerts[:MAX_ALERTS]:
        yield {
            "alert": alert["labels"].get("alertname", ""),
            "status": alert["status"],
            "since": alert["startsAt"],
            "labels": {name: value for name, value in alert["labels"].items() if name != "alertname"},
            **alert.get("annotations", {}),
        }
    if len(alerts) > MAX_ALERTS:
        yield {"omitted": len(alerts) - MAX_ALERTS}


class Receiver(BaseHTTPRequestHandler):
    """Requests of one connection."""

    timeout = SECONDS

    def do_POST(self) -> None:
        """Write the alerts of a message, and answer 200; 400 if it is none, 413 if it is too long."""
        try:
            length = int(self.headers.get("Content-Length") or 0)
            if not 0 <= length <= MAX_BYTES:
                self.send_error(413)
                return
            written = [json.dumps(line) for line in lines(json.loads(self.rfile.read(length)))]
        except (ValueError, KeyError, TypeError, AttributeError):
            self.send_error(400)
            return
        sys.stdout.write("".join(line + "\n" for line in written))
        sys.stdout.flush()
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Write no line for each request."""


def main() -> None:
    """Receive alerts until the process is ended."""
    server = ThreadingHTTPServer(("", int(sys.argv[1])), Receiver)
    sys.stdout.write(json.dumps({"listening": server.server_port}) + "\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()

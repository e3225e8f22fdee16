"""A Prometheus server of one test, on a free port, with queries over its HTTP API."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import re
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Self

import yaml

from grafana import generate
from tests.helpers import eventually

PATIENCE_SECONDS = 30.0
_LISTENING = re.compile(r'msg="Listening on" address=(\S+)')


class Prometheus:
    """A running server."""

    def __init__(self, program: str, directory: Path, config: dict[str, Any]) -> None:
        """Start it; `config` is its configuration file."""
        file = directory / "prometheus.yaml"
        file.write_text(yaml.safe_dump(config), "utf-8")
        self._log = directory / "prometheus.log"
        with self._log.open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                [
                    program,
                    f"--config.file={file}",
                    f"--storage.tsdb.path={directory / 'data'}",
                    "--web.listen-address=127.0.0.1:0",
                ],
                stdout=log,
                stderr=log,
            )
        self._url = self._wait_until_ready()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def query(self, expr: str, at_seconds: float) -> list[float]:
        """Return the values of an instant query, at a time since the epoch."""
        result = self.get("/api/v1/query", query=expr, time=str(at_seconds))["result"]
        return [float(sample["value"][1]) for sample in result]

    def has(self, expr: str) -> bool:
        """Tell whether a query returns a number now."""
        return any(not math.isnan(value) for value in self.query(expr, time.time()))

    def get(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer."""
        url = f"{self._url}{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as response:  # noqa: S310 - a server of ours
            return json.load(response)["data"]

    def _wait_until_ready(self) -> str:
        """Wait until the server answers, and return its URL. It first answers with 503."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            if found := _LISTENING.search(self._log.read_text("utf-8")):
                url = f"http://{found[1]}"
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"{url}/-/ready", timeout=PATIENCE_SECONDS).close()  # noqa: S310 - the same
                    return url
            time.sleep(0.02)
        self._process.kill()
        self._process.wait()
        raise AssertionError(f"Prometheus is not ready:\n{self._log.read_text('utf-8')[-4000:]}")


def configuration(directory: Path, targets: dict[str, int], labels: dict[str, dict[str, str]]) -> dict[str, Any]:
    """Return a configuration with all rules, evaluated each second.

    Args:
        directory: for copies of the rules.
        targets: admin port of each process, by its name.
        labels: labels of each process, by its name.
    """
    files = []
    for path, text in generate.files().items():
        if path.suffix == ".yaml":
            document = yaml.safe_load(text)
            for group in document["groups"]:
                group["interval"] = "1s"
            files.append(directory / path.name)
            files[-1].write_text(yaml.safe_dump(document), "utf-8")
    return {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": list(map(str, files)),
        "scrape_configs": [
            {
                "job_name": "avr-sts",
                "static_configs": [
                    {"targets": [f"127.0.0.1:{port}"], "labels": labels[name]} for name, port in targets.items()
                ],
            }
        ],
    }


async def seen(server: Prometheus, expr: str) -> None:
    """Wait until a query returns a number."""

    async def is_so() -> bool:
        return await asyncio.to_thread(server.has, expr)

    is_so.__qualname__ = expr
    await eventually(is_so, PATIENCE_SECONDS)

"""A process that has metrics, and evaluates what a test tells it: they are a process's own."""

from __future__ import annotations

import json
import subprocess
import sys

from prometheus_client.parser import text_string_to_metric_families

# It answers commands, a line each.
PROGRAM = """
import json, sys
from pathlib import Path
from common.observe import logs, metrics

logs.configure("speaker")
if len(sys.argv) > 1:
    metrics.share(Path(sys.argv[1]), sys.argv[2])
for line in sys.stdin:
    print(json.dumps(eval(line)), flush=True)
"""

Samples = dict[str, float]


class Speaker:
    """A process that evaluates given expressions."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def tell(self, *expressions: str) -> object:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        answer: object = None
        for expression in expressions:
            self._process.stdin.write(expression + "\n")
            self._process.stdin.flush()
            answer = json.loads(self._process.stdout.readline())
        return answer

    def scrape(self) -> Samples:
        text = self.tell("metrics.render()[0].decode()")
        assert isinstance(text, str)
        return {
            sample.name + "".join(f"[{value}]" for _, value in sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

"""Install a checkout and show the progress: `python scripts/install.py VENV SET EXTRAS`.

VENV is the folder of the virtual environment. SET is a set of versions (scripts/constraints.py).
EXTRAS is empty for the packages that running needs, or names such as `dev`.
The script runs before anything is installed, so the script needs the standard library alone.
"""

from __future__ import annotations

import os
import re
import selectors
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

QUIET_SECONDS: Final = 3.0
"""Longest time without a line: a person who sees nothing for longer stops the command."""

LINES_KEPT: Final = 200
"""Lines of output that a failure shows."""

CHUNK_BYTES: Final = 65_536

_DOWNLOAD: Final = re.compile(r"\s*(?:Downloading|Using cached) (\S+?)(?:-\d\S*)? \(([\d.]+ \S+)\)")
_NAMES: Final = re.compile(r"Installing collected packages: (.+)")


class InstallError(Exception):
    """A step that failed, with the end of its output."""


class Progress:
    """Lines about the steps, each with the time since the start."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._start_seconds = time.monotonic()
        self._shown_seconds = self._start_seconds
        self.doing = ""

    def say(self, text: str) -> None:
        """Print one line."""
        self._shown_seconds = time.monotonic()
        sys.stdout.write(f"{self.seconds:4.0f} s  {text}\n")
        sys.stdout.flush()

    def remind(self) -> None:
        """Print the current step and the size of the folder, if nothing has been printed for a while."""
        if time.monotonic() - self._shown_seconds >= QUIET_SECONDS:
            self.say(f"{self.doing} ({megabytes(self._folder)} MB in {self._folder})")

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.monotonic() - self._start_seconds


def describe(line: str) -> str | None:
    """Return the progress that a line of pip's output is worth, or None for a line of no interest."""
    if found := _DOWNLOAD.match(line):
        return f"{found[1]}, {found[2]}"
    if found := _NAMES.match(line):
        return f"installing {found[1].count(',') + 1} packages"
    return None


def megabytes(folder: Path) -> int:
    """Return the size of all files in a folder; files that vanish meanwhile count nothing."""
    size = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                size += os.lstat(os.path.join(root, name)).st_size  # noqa: PTH118 - faster for 30,000 files
            except FileNotFoundError:
                continue
    return round(size / 1e6)


def run(command: Sequence[str | Path], doing: str, progress: Progress) -> None:
    """Run a step to its end, and print its progress.

    Raises:
        InstallError: it failed.
    """
    progress.doing = doing
    progress.say(doing)
    last: deque[str] = deque(maxlen=LINES_KEPT)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:  # noqa: S603
        for line in _lines(process, progress):
            last.append(line)
            if text := describe(line):
                progress.doing = text if text.startswith("installing") else doing
                progress.say(text)
    if process.returncode:
        raise InstallError("\n".join([*last, f"{doing}: failed with exit code {process.returncode}"]))


def _lines(process: subprocess.Popen[bytes], progress: Progress) -> Iterator[str]:
    assert process.stdout is not None
    waiting = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(QUIET_SECONDS / 3):
                progress.remind()
                continue
            data = os.read(process.stdout.fileno(), CHUNK_BYTES)
            *lines, waiting = (waiting + data).split(b"\n")
            yield from (line.decode(errors="replace") for line in lines)
            progress.remind()
            if not data:
                break
    if waiting:
        yield waiting.decode(errors="replace")


def main(arguments: Sequence[str]) -> int:
    """Create the environment and install; return pip's success as an exit code."""
    folder, versions, extras = Path(arguments[0]), arguments[1], arguments[2]
    progress, python, constraints = Progress(folder), folder / "bin" / "python", folder / "constraints.txt"
    release = ".".join(map(str, sys.version_info[:3]))
    here = Path(__file__).with_name("constraints.py")
    try:
        if not extras:
            run([sys.executable, "-m", "venv", folder], f"creating {folder} with Python {release}", progress)
        pins = subprocess.run([sys.executable, here, versions], stdout=subprocess.PIPE, check=True).stdout  # noqa: S603
        constraints.write_bytes(pins)
        pip = (python, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off")
        what = f"installing what the extra [{extras}] adds" if extras else "installing what running needs"
        wanted = f".[{extras}]" if extras else "."
        run([*pip, "--constraint", constraints, "--editable", wanted], what, progress)
    except subprocess.CalledProcessError:
        return 1  # it has said why
    except InstallError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    progress.say(f"ready: {megabytes(folder)} MB in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

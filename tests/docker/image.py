"""Parse the Dockerfile with Docker's own parser, and run its install steps without Docker.

`Build` runs the steps of all stages in one folder, which stands for the image's root. So files that a stage copies
from another stage exist already. Absolute paths in commands become paths in this folder. Debian's packages are not
installed.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import dockerfile  # type: ignore[import-not-found]  # a binary without types

REPOSITORY: Final = Path(__file__).resolve().parents[2]
DOCKERFILE: Final = REPOSITORY / "Dockerfile"

# Folders of the image that are named in its commands.
FOLDERS: Final = ("/build", "/opt/avr-sts", "/opt/compile", "/usr/local", "/usr/src/app")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction, such as `COPY --from=node /a /b`.

    Attributes:
        stage: the name of the instruction's stage, or its number; empty before the first stage.
    """

    stage: str
    name: str
    flags: tuple[str, ...]
    values: tuple[str, ...]


def instructions() -> list[Instruction]:
    """Return all instructions of the Dockerfile in order."""
    read = []
    stage, stages = "", 0
    for command in dockerfile.parse_file(str(DOCKERFILE)):
        values = tuple(command.value)
        if command.cmd == "FROM":
            stage, stages = values[2] if len(values) == 3 else str(stages), stages + 1
        read.append(Instruction(stage, command.cmd, tuple(command.flags), values))
    return read


def last_stage(name: str) -> list[tuple[str, ...]]:
    """Return the values of the last stage's instructions with this name."""
    everything = instructions()
    return [each.values for each in everything if each.name == name and each.stage == everything[-1].stage]


def environment() -> dict[str, str]:
    """Return the variables that the image sets."""
    values = [value for each in last_stage("ENV") for value in each]
    return dict(zip(values[::2], values[1::2], strict=True))


def is_sent(path: str) -> bool:
    """Return whether .dockerignore lets a path be sent to the builder; the last rule wins."""
    sent = True
    for line in (REPOSITORY / ".dockerignore").read_text("utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        parts = Path(path).parts
        heads = ["/".join(parts[: end + 1]) for end in range(len(parts))]
        if pattern.startswith("**/"):
            matches = any(fnmatch.fnmatch(part, pattern[3:]) for part in parts)
        else:
            matches = any(fnmatch.fnmatch(head, pattern) for head in heads)
        if matches:
            sent = line.startswith("!")
    return sent


def sources(name: str) -> list[Path]:
    """Return the files that a COPY of `name` takes from the repository."""
    whole = REPOSITORY / name
    files = [whole] if whole.is_file() else [each for each in whole.rglob("*") if each.is_file()]
    return [each for each in files if is_sent(str(each.relative_to(REPOSITORY)))]


class Build:
    """A run of the Dockerfile's steps in the folder `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._work = root
        self._environment = {
            **{
                name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
            },
            # Compiled code makes the image faster, but compiling makes a test slower.
            "AVR_STS_COMPILE": "0",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }

    def run(self) -> None:
        """Run all steps.

        Raises:
            subprocess.CalledProcessError: a command of a RUN failed.
        """
        for each in instructions():
            match each.name:
                case "FROM":
                    self._work = self._root
                case "WORKDIR":
                    self._work = self.path(each.values[0])
                    self._work.mkdir(parents=True, exist_ok=True)
                case "ENV":
                    pairs = zip(each.values[::2], each.values[1::2], strict=True)
                    # pip's cache would make an image bigger, but it makes a test faster.
                    self._environment |= {
                        name: self._led(value) for name, value in pairs if name not in {"PATH", "PIP_NO_CACHE_DIR"}
                    }
                case "COPY":
                    self._copy(each)
                case "RUN" if "apt-get" not in each.values[0]:
                    self._run(each.values[0])

    def derive(self, command: str) -> None:
        """Run a RUN of a derived image.

        Raises:
            subprocess.CalledProcessError: the command failed.
        """
        self._run(command)

    def path(self, name: str) -> Path:
        """Return the place of an image's path in the folder."""
        return self._root / name.lstrip("/") if name.startswith("/") else self._work / name

    def _led(self, text: str) -> str:
        return re.sub(rf"(?<![\w/.])({'|'.join(FOLDERS)})\b", rf"{self._root}\1", text)

    def _run(self, command: str) -> None:
        subprocess.run(
            ["/bin/bash", "-euo", "pipefail", "-c", self._led(command)],
            cwd=self._work,
            env=self._environment,
            check=True,
            capture_output=True,
            text=True,
        )

    def _copy(self, each: Instruction) -> None:
        *names, target = each.values
        if each.flags:  # from another stage
            (source,) = names
            self.path(target).parent.mkdir(parents=True, exist_ok=True)
            if source != target:
                shutil.copytree(self.path(source), self.path(target), dirs_exist_ok=True)
            return
        for name in names:
            for file in sources(name):
                inside = file.relative_to(REPOSITORY / name)
                to = self.path(target) / (file.name if str(inside) == "." else inside)
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, to)

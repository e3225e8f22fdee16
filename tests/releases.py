"""Releases of the service as people have them: wheels, each installed into a folder of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("common", "dispatcher", "simulator", "worker")
BUILD_SECONDS = 60


@dataclass(frozen=True, slots=True)
class InstalledRelease:
    """A wheel in a folder, which goes on PYTHONPATH.

    Attributes:
        version: of the wheel.
        folder: has the packages, and the command in `bin`.
    """

    version: str
    folder: Path

    @property
    def command(self) -> Path:
        """Return the path of the command `avr-sts-openai`."""
        return self.folder / "bin" / "avr-sts-openai"


@dataclass(frozen=True, slots=True)
class PreviousRelease:
    """The release before this one, as pyproject.toml names it.

    Attributes:
        version: of it.
        protocol: of its links.
        commit: from which its wheel is built.
    """

    version: str
    protocol: int
    commit: str


class NoHistory(Exception):
    """The previous release's commit is not in this clone."""


def previous_release() -> PreviousRelease:
    """Read which release was the previous one."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    return PreviousRelease(**project["tool"]["avr-sts"]["previous-release"])


def install_commit(commit: str, folder: Path) -> InstalledRelease:
    """Build the wheel of a commit and install it below `folder`.

    Raises:
        NoHistory: the commit is not here, as in a clone of depth 1.
    """
    git = shutil.which("git")
    if git is None:
        raise NoHistory("git is missing")
    archive = subprocess.run([git, "archive", commit], cwd=REPOSITORY, capture_output=True, check=False)
    if archive.returncode:
        raise NoHistory(archive.stderr.decode(errors="replace").strip())
    sources = folder / "sources"
    sources.mkdir()
    # Python's own `tarfile` can be told to trust nothing only from 3.11.4 on, and Debian 12 has 3.11.2.
    tar = shutil.which("tar")
    if tar is None:
        raise NoHistory("tar is missing")
    subprocess.run([tar, "-x", "-C", str(sources)], input=archive.stdout, check=True)
    return _install(sources, folder)


def install_this(version: str, folder: Path) -> InstalledRelease:
    """Build the wheel of this tree under another version and install it below `folder`."""
    sources = folder / "sources"
    sources.mkdir(parents=True)
    for name in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__", "node_modules", "*.so")
        shutil.copytree(REPOSITORY / name, sources / name, ignore=ignored)
    for path in REPOSITORY.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, sources)
    project = sources / "pyproject.toml"
    text, count = re.subn(r'(?m)^version = ".*"$', f'version = "{version}"', project.read_text("utf-8"), count=1)
    assert count == 1, "pyproject.toml names no version"
    project.write_text(text, "utf-8")
    return _install(sources, folder)


def _install(sources: Path, folder: Path) -> InstalledRelease:
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder / "wheels", ".", cwd=sources)
    (wheel,) = (folder / "wheels").iterdir()
    _pip("install", "--no-deps", "--no-index", "--no-compile", "--target", folder / "installed", wheel, cwd=folder)
    return InstalledRelease(wheel.name.split("-")[1], folder / "installed")


def _pip(command: str, *arguments: str | Path, cwd: Path) -> None:
    environment = {
        name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "AVR_STS_COMPILE"}
    }
    done = subprocess.run(
        [sys.executable, "-m", "pip", command, "--quiet", "--disable-pip-version-check", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"pip {command} failed:\n{done.stdout}{done.stderr}"

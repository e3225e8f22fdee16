"""The unit for systemd, and `docs/systemd.md`: its settings exist, its times fit the drain, systemd accepts it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from common.runtime.cli import PROGRAM, parse_arguments
from common.settings.fields import SECRETS
from common.settings.roles import Role
from common.settings.settings import Settings
from tests.docs.blocks import REPOSITORY, blocks, document, env_file
from tests.helpers import needed_program

UNIT: Final = REPOSITORY / "docs" / "systemd" / "avr-sts-openai.service"
TEXT: Final = UNIT.read_text("utf-8")
NAMES: Final = {name.upper() for name in Settings.model_fields} | {f"{name.upper()}_FILE" for name in SECRETS}


def _values(key: str, text: str = TEXT) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", text, re.MULTILINE)


def _drain_seconds() -> float:
    return Settings.parse({"OPENAI_API_KEY": "k"}, Role.SERVE).drain_seconds


def test_unit_starts_serve_and_reloads_by_sighup() -> None:
    (start,) = _values("ExecStart")
    program, *arguments = shlex.split(start)
    assert Path(program).name == PROGRAM
    assert arguments == ["serve"]
    parse_arguments(arguments)
    assert _values("ExecReload") == ["/bin/kill -HUP $MAINPID"]


def test_systemd_waits_for_the_drain_of_serve() -> None:
    (stop,) = _values("TimeoutStopSec")
    assert int(stop) >= _drain_seconds() + 2
    assert f"DRAIN_SECONDS ({_drain_seconds():.0f})" in TEXT
    for block in blocks("systemd.md"):
        if block.language == "systemd":
            (drain,) = re.findall(r"DRAIN_SECONDS=(\d+)", block.text)
            assert int(_values("TimeoutStopSec", block.text)[0]) >= int(drain) + 2


def test_wrong_settings_are_not_tried_again() -> None:
    assert _values("RestartPreventExitStatus") == [str(os.EX_CONFIG)]
    assert _values("Restart") == ["always"]
    assert _values("OOMPolicy") == ["continue"], "serve replaces a worker itself"


def test_environment_of_the_unit_has_settings_alone() -> None:
    given = [each.split("=", 1)[0] for each in _values("#?Environment")]
    assert given
    assert set(given) <= NAMES
    for block in blocks("systemd.md"):
        if block.language == "env":
            assert env_file(block.text).keys() <= NAMES
            Settings.parse({"OPENAI_API_KEY": "k", **env_file(block.text)}, Role.SERVE)


def test_document_links_and_paths_are_those_of_the_unit() -> None:
    text = document("systemd.md")
    for link in re.findall(r"\]\(([^)#\s]+)\)", text):
        assert (REPOSITORY / "docs" / link).is_file(), link
    for path in (*_values("EnvironmentFile"), str(Path(_values("ExecStart")[0].split()[0]).parents[1])):
        assert path in text
    (user,) = _values("User")
    assert f"useradd --system --user-group --home-dir /nonexistent --shell /usr/sbin/nologin {user}" in text


@pytest.mark.system
def test_systemd_accepts_the_unit_and_its_rights_are_few(tmp_path: Path) -> None:
    program = needed_program("systemd-analyze")
    copy = tmp_path / UNIT.name
    copy.write_text(TEXT.replace(_values("ExecStart")[0], f"{sys.executable} serve"), "utf-8")
    verified = subprocess.run([program, "verify", copy], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    # The program's scale is 0 (safe) to 10. The value depends on its release.
    rated = subprocess.run(
        [program, "security", "--offline=true", "--threshold=20", copy],
        capture_output=True,
        text=True,
        check=False,
    )
    assert rated.returncode == 0, rated.stdout + rated.stderr
    level = re.search(r"exposure level for \S+: ([\d.]+) ", rated.stdout)
    assert level is not None
    assert float(level[1]) < 2

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from common.settings.roles import Role
from common.settings.settings import Settings
from common.settings.writable_paths import MAX_ENTRIES, writable_paths

NEEDED = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "ws://127.0.0.1:9000"}


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """Return a folder with a tool that its owner alone may change."""
    folder = tmp_path / "tools"
    folder.mkdir(mode=0o755)
    (folder / "a.py").touch(mode=0o644)
    (folder / "a.py").chmod(0o644)
    folder.chmod(0o755)
    return folder


def test_a_folder_of_its_owner_is_not_named(tools: Path) -> None:
    assert writable_paths(tools) == []
    assert writable_paths(tools / "none") == []


@pytest.mark.parametrize(("mode", "who"), [(0o777, "all"), (0o1777, "all"), (0o775, "its group"), (0o757, "all")])
def test_a_folder_that_others_may_change_is_named(tools: Path, mode: int, who: str) -> None:
    tools.chmod(mode)
    assert writable_paths(tools) == [f"{tools} (mode {mode:04o}, {who})"]


@pytest.mark.parametrize(("mode", "who"), [(0o666, "all"), (0o664, "its group")])
@pytest.mark.parametrize("name", ["a.py", "b.js", "helpers.txt"])
def test_a_file_that_others_may_change_is_named(tools: Path, name: str, mode: int, who: str) -> None:
    (tools / name).touch()
    (tools / name).chmod(mode)
    assert writable_paths(tools) == [f"{tools / name} (mode {mode:04o}, {who})"]


def test_a_file_behind_a_link_is_named_and_a_broken_link_is_not(tools: Path, tmp_path: Path) -> None:
    (tmp_path / "b.py").touch()
    (tmp_path / "b.py").chmod(0o666)
    (tools / "b.py").symlink_to(tmp_path / "b.py")
    (tools / "c.py").symlink_to(tmp_path / "none")
    assert writable_paths(tools) == [f"{tools / 'b.py'} (mode 0666, all)"]


def test_a_file_system_that_is_read_only_is_not_named(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools.chmod(0o777)
    # A test cannot mount one.
    monkeypatch.setattr(os, "statvfs", lambda _folder: SimpleNamespace(f_flag=os.ST_RDONLY))
    assert writable_paths(tools) == []


def test_a_large_folder_is_looked_at_in_part(tools: Path) -> None:
    for number in range(MAX_ENTRIES + 10):
        (tools / f"t{number}.py").touch()
        (tools / f"t{number}.py").chmod(0o666)
    assert len(writable_paths(tools)) <= MAX_ENTRIES


def test_the_start_warns_in_one_line(tools: Path) -> None:
    tools.chmod(0o777)
    for name in ("b.py", "c.py", "d.py", "e.py", "f.py", "g.py"):
        (tools / name).touch()
        (tools / name).chmod(0o666)
    (line,) = Settings.parse(NEEDED | {"TOOLS_DIR": str(tools)}, Role.SERVE).notices
    assert line == (
        "TOOLS_DIR: other users may change code that runs with the worker's rights: "
        f"{tools} (mode 0777, all), {tools}/b.py (mode 0666, all), {tools}/c.py (mode 0666, all), "
        f"{tools}/d.py (mode 0666, all), {tools}/e.py (mode 0666, all) and 2 more; "
        "remove their rights: chmod go-w"
    )
    dispatcher = {"REDIS_URL": "redis://h", "TOOLS_DIR": str(tools)}
    assert Settings.parse(dispatcher, Role.DISPATCHER).notices == ()


def test_avr_tools_are_looked_at_too(tools: Path) -> None:
    avr_tools = tools.with_name("avr_tools")
    avr_tools.mkdir()
    avr_tools.chmod(0o777)
    for variables in ({"TOOLS_DIR": str(tools)}, {"AVR_TOOLS_DIR": str(avr_tools)}):
        (line,) = Settings.parse(NEEDED | variables, Role.SERVE).notices
        assert line.startswith(
            f"AVR_TOOLS_DIR: other users may change code that runs with the worker's rights: {avr_tools} ("
        )

from __future__ import annotations

import os
from pathlib import Path

import pytest

from worker.tools.errors import BadTool
from worker.tools.files import MAX_FILES, MAX_SOURCE_BYTES, read, scan


def found(directory: Path) -> list[str]:
    return [file.name for file in scan(directory).stamps]


def test_a_directory_that_does_not_exist_has_no_tools(tmp_path: Path) -> None:
    assert found(tmp_path / "tools") == []


def test_a_file_in_the_place_of_the_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "tools").touch()
    with pytest.raises(NotADirectoryError):
        scan(tmp_path / "tools")


def test_tools_are_python_and_javascript_files_by_name(tmp_path: Path) -> None:
    for name in ("b.py", "a.js", "_c.js", "c.py", "README.md", "_shared.py", ".hidden.js", "d.pyc", "e.mjs"):
        (tmp_path / name).touch()
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "folder.js").mkdir()
    assert found(tmp_path) == ["_c.js", "a.js", "b.py", "c.py", "e.mjs"]


def test_only_an_edit_changes_the_stamp(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("one")
    before = scan(tmp_path).stamps
    assert scan(tmp_path).stamps == before
    status = file.stat()

    file.write_text("three")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    longer = scan(tmp_path).stamps
    assert longer != before

    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    touched = scan(tmp_path).stamps
    assert touched != longer

    (tmp_path / "new").write_text("three")
    os.utime(tmp_path / "new", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    (tmp_path / "new").replace(file)
    assert scan(tmp_path).stamps != touched


def test_stamp_is_that_of_a_links_target(tmp_path: Path) -> None:
    """Follow links as Kubernetes mounts a ConfigMap: a link to a directory that is replaced as a whole."""
    for version in ("one", "two"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "a.js").write_text("same")
        os.utime(tmp_path / version / "a.js", ns=(0, 0))
    (tmp_path / "data").symlink_to("one")
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "a.js").symlink_to("../data/a.js")
    before = scan(tools).stamps
    (tmp_path / "data").unlink()
    (tmp_path / "data").symlink_to("two")
    assert scan(tools).stamps != before


def test_broken_link_is_listed_and_fails_to_read(tmp_path: Path) -> None:
    (tmp_path / "a.py").symlink_to("nowhere.py")
    assert found(tmp_path) == ["a.py"]
    with pytest.raises(BadTool, match="No such file"):
        read(tmp_path / "a.py")


def test_too_long_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_bytes(b"#" * MAX_SOURCE_BYTES)
    assert len(read(file)) == MAX_SOURCE_BYTES
    file.write_bytes(b"#" * (MAX_SOURCE_BYTES + 1))
    with pytest.raises(BadTool, match="longer than"):
        read(file)


def test_files_over_the_limit_of_functions_are_left_out(tmp_path: Path) -> None:
    for number in range(MAX_FILES + 2):
        (tmp_path / f"tool{number:03}.py").touch()
    listing = scan(tmp_path)
    assert len(listing.stamps) == MAX_FILES
    assert listing.left_out == (tmp_path / "tool126.py", tmp_path / "tool127.py")

"""Progress of `make setup`, with real processes in place of pip."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from scripts import install


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("  Downloading numpy-2.4.6-cp311-cp311-linux_x86_64.whl (16.9 MB)", "numpy, 16.9 MB"),
        ("  Using cached ruff-0.17.5-py3-none-linux_x86_64.whl (11.2 MB)", "ruff, 11.2 MB"),
        ("  Downloading webrtcvad_wheels-2.0.14.post1-cp311.whl (94 kB)", "webrtcvad_wheels, 94 kB"),
        ("Installing collected packages: a, b, c", "installing 3 packages"),
        ("Collecting numpy>=2.0", None),
    ],
)
def test_line_of_pip_is_shown_in_short(line: str, shown: str | None) -> None:
    assert install.describe(line) == shown


def test_step_shows_its_downloads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = "print('noise'); print('  Downloading a-1.whl (2 kB)')"
    install.run([sys.executable, "-c", program], "installing", install.Progress(tmp_path))
    assert [line.split(" s  ")[1] for line in capsys.readouterr().out.splitlines()] == ["installing", "a, 2 kB"]


def test_failed_step_shows_the_output_of_the_program(tmp_path: Path) -> None:
    program = "import sys; print('no such package'); sys.exit(3)"
    with pytest.raises(install.InstallError, match=r"no such package\ninstalling: failed with exit code 3"):
        install.run([sys.executable, "-c", program], "installing", install.Progress(tmp_path))


def test_output_of_a_failed_step_is_bounded(tmp_path: Path) -> None:
    program = f"import sys; print('line\\n' * {2 * install.LINES_KEPT}); sys.exit(1)"
    with pytest.raises(install.InstallError) as failure:
        install.run([sys.executable, "-c", program], "installing", install.Progress(tmp_path))
    assert len(str(failure.value).splitlines()) == install.LINES_KEPT + 1


def test_silent_step_shows_the_size_of_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_bytes(bytes(3_000_000))
    progress = install.Progress(tmp_path)
    progress.doing = "installing 3 packages"
    progress._shown_seconds -= install.QUIET_SECONDS
    progress.remind()
    progress.remind()
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith(f"installing 3 packages (3 MB in {tmp_path})")

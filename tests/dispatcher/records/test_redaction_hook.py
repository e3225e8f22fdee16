from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from common.errors import SettingsError
from dispatcher.records.redaction import Redactor
from dispatcher.records.redaction_hook import MAX_STUCK_THREADS, RedactionThread, load_hook


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def test_function_of_the_working_directory_is_loaded(folder: Path) -> None:
    (folder / "hook_of_this_test.py").write_text("def shout(text):\n    return text.upper()\n")
    assert load_hook("hook_of_this_test:shout")("a") == "A"


def test_module_of_the_working_directory_replaces_none_here(folder: Path) -> None:
    (folder / "common.py").write_text("raise SystemExit")
    (folder / "other_hook_of_this_test.py").write_text("import common.errors\ndef same(text):\n    return text\n")
    assert load_hook("other_hook_of_this_test:same")("a") == "a"


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (None, "missing_of_this_test:f"),
        ("x = 1", "first_broken:f"),
        ("f = 1", "second_broken:f"),
        ("1 / 0", "third_broken:f"),
        ("raise SystemExit(3)", "fourth_broken:f"),
        ("raise ValueError('one\\ntwo')", "fifth_broken:f"),
        ("def f(:", "sixth_broken:f"),
    ],
)
def test_hook_that_cannot_be_loaded_stops_the_start(folder: Path, content: str | None, name: str) -> None:
    if content is not None:
        (folder / f"{name.partition(':')[0]}.py").write_text(content)
    with pytest.raises(SettingsError) as raised:
        load_hook(name)
    assert str(raised.value).startswith(f"CALL_RECORDS_REDACT='{name}' ")
    assert "\n" not in str(raised.value)


async def test_texts_are_redacted_in_a_thread() -> None:
    seen: list[threading.Thread] = []

    def hook(text: str) -> str:
        seen.append(threading.current_thread())
        return text

    thread = RedactionThread(Redactor(hook))
    made = await thread.texts(["4111111111111111"], [])
    assert made.texts == ("[card]",)
    assert seen[0] is not threading.main_thread()


async def test_texts_are_left_out_while_a_hook_hangs() -> None:
    release = threading.Event()
    calls = []

    def hang(text: str) -> str:
        calls.append(text)
        release.wait()
        return text

    thread = RedactionThread(Redactor(hang), seconds=0.01)
    for _ in range(MAX_STUCK_THREADS + 3):
        made = await thread.texts(["words"], [])
        assert (made.texts, made.failures) == ((None,), 1)
    assert len(calls) == MAX_STUCK_THREADS
    release.set()


async def test_hook_that_exits_leaves_the_texts_out() -> None:
    def leave(_: str) -> str:
        raise SystemExit

    made = await RedactionThread(Redactor(leave)).texts(["one", "two"], [])
    assert (made.texts, made.failures) == ((None, None), 2)

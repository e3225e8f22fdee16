from __future__ import annotations

from pathlib import Path

import pytest

from common.audio.wav import WavError
from simulator.espeak import MAX_TEXT_CHARACTERS, speak
from tests.helpers import needed_program


@pytest.fixture
def espeak() -> None:
    needed_program("espeak-ng")


@pytest.mark.usefixtures("espeak")
async def test_text_becomes_audible_speech_at_8_khz() -> None:
    pcm = await speak("--this is no option", "en")
    assert 0.5 < len(pcm) / 16000 < 10
    assert len(set(pcm)) > 100


async def test_failure_of_the_program_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "espeak-ng"
    program.write_text("#!/bin/sh\necho 'no such voice' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WavError, match=r"^--say: espeak-ng failed: no such voice$"):
        await speak("hello", "xx")


async def test_missing_program_is_told_with_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WavError, match=r"apt install espeak-ng.* or record the words and give --wav"):
        await speak("hello", "en")


@pytest.mark.parametrize("text", ["", "  ", "x" * (MAX_TEXT_CHARACTERS + 1)])
async def test_text_of_no_use_is_refused(text: str) -> None:
    with pytest.raises(WavError, match="give 1 to 2000 characters"):
        await speak(text, "en")

from __future__ import annotations

from pathlib import Path

import pytest

from common.audio.wav import read_wav
from scripts import record_dialogue
from scripts.ulaw_recording import levelled, write_ulaw
from simulator.dialogue.reader import BUNDLED
from tests.helpers import needed_program


def test_each_recording_belongs_to_a_line_of_the_dialogue() -> None:
    named = {path for _, _, path in record_dialogue.spoken_steps()}
    assert named == {*BUNDLED.parent.glob("*.wav")}
    assert len({voice for voice, _, _ in record_dialogue.spoken_steps()}) == 2


def test_levelled_speech_survives_the_file(tmp_path: Path) -> None:
    speech = levelled(read_wav(BUNDLED.parent / "2-caller.wav"))
    write_ulaw(tmp_path / "again.wav", speech)
    again = read_wav(tmp_path / "again.wav")
    assert len(again) == len(speech)
    assert (tmp_path / "again.wav").stat().st_size < len(speech) // 2 + 100


@pytest.mark.system
def test_flite_makes_the_same_recordings_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed_program("flite")
    kept = {path.name: path.read_bytes() for path in BUNDLED.parent.glob("*.wav")}
    steps = [(voice, text, tmp_path / path.name) for voice, text, path in record_dialogue.spoken_steps()]
    monkeypatch.setattr(record_dialogue, "spoken_steps", lambda: steps)
    record_dialogue.main()
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.wav")} == kept

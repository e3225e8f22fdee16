"""Recordings as settings name them, and those that the package brings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from common.audio.wav import read_wav, write_wav
from common.errors import SettingsError
from common.settings.settings import Settings
from dispatcher.call.announcements import Announcements
from dispatcher.runner.sounds import APOLOGY, load, soft_tones

_REPOSITORY = Path(__file__).resolve().parents[3]


def _samples(pcm: bytes) -> npt.NDArray[np.float64]:
    return np.frombuffer(pcm, "<i2") / 32768.0


def _db(level: float) -> float:
    return float(20 * np.log10(level))


def test_the_default_is_the_apology_alone() -> None:
    loaded = load(Settings())
    assert loaded.sentence.startswith(read_wav(APOLOGY))
    assert len(loaded.sentence) % 320 == 0
    assert loaded == Announcements(loaded.sentence)


def test_none_turns_everything_off() -> None:
    assert load(Settings(fallback_wav="none")) == Announcements()


def test_an_extension_has_the_default_context_unless_given() -> None:
    plain = load(Settings(fallback_extension="600"))
    assert (plain.extension, plain.context) == ("600", "demo")
    given = load(Settings(fallback_extension="600@support"))
    assert (given.extension, given.context) == ("600", "support")
    elsewhere = load(Settings(fallback_extension="600", transfer_context="from-internal"))
    assert (elsewhere.extension, elsewhere.context) == ("600", "from-internal")


def test_files_are_read(tmp_path: Path) -> None:
    pcm = np.arange(1, 401, dtype="<i2").tobytes()
    write_wav(tmp_path / "a.wav", pcm)
    name = str(tmp_path / "a.wav")
    loaded = load(Settings(fallback_wav=name, filler_wav=name, filler_after_ms=800))
    assert loaded.sentence == pcm + bytes(160)
    assert loaded.filler == pcm
    assert loaded.filler_after_seconds == 0.8


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^FILLER_WAV='.*gone\.wav' must be a WAV file .* file not found$"):
        load(Settings(filler_wav=str(tmp_path / "gone.wav")))


def test_the_apology_is_short_clean_and_part_of_the_package() -> None:
    content = APOLOGY.read_bytes()
    assert int.from_bytes(content[20:22], "little") == 7  # mu-law
    samples = _samples(read_wav(APOLOGY))
    assert 5 < len(samples) / 8000 < 8
    assert -4 < _db(np.abs(samples).max()) < -2
    assert abs(samples.mean()) < 1e-3
    assert np.abs(samples[:400]).max() < 0.01
    assert np.abs(samples[-400:]).max() < 0.01
    assert '"recordings/*.wav"' in (_REPOSITORY / "pyproject.toml").read_text("utf-8")


def test_the_soft_tones_are_quiet_and_loop_without_a_click() -> None:
    tones = soft_tones()
    samples = _samples(tones)
    assert len(tones) % 320 == 0
    assert -36 < _db(np.abs(samples).max()) < -29
    assert samples[0] == samples[-1] == 0
    assert np.abs(np.diff(samples)).max() < 0.02

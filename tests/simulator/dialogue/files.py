"""Files of dialogues for tests, with tones in place of speech."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import numpy as np

from common.audio.wav import write_wav


def write_tone(path: Path, *pieces: float, hz: float = 440.0) -> None:
    """Write tones of these seconds at -20 dBFS; a negative number is silence."""
    parts = []
    for seconds in pieces:
        times = np.arange(round(8000 * abs(seconds))) / 8000
        parts.append(3276.8 * np.sin(2 * np.pi * hz * times) * (seconds > 0))
    write_wav(path, np.concatenate(parts).astype("<i2").tobytes())


def write_dialogue(folder: Path, text: str) -> Path:
    """Write a dialogue's file beside `agent.wav` (3 s) and `caller.wav` (1 s)."""
    write_tone(folder / "agent.wav", 3.0, hz=500.0)
    write_tone(folder / "caller.wav", 1.0, hz=900.0)
    path = folder / "dialogue.yaml"
    path.write_text(dedent(text).lstrip("\n"), "utf-8")
    return path

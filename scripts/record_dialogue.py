"""Record the dialogue of the demo: `python -m scripts.record_dialogue`.

It needs Debian's `flite`, whose voices `slt` and `rms` differ clearly on a telephone. Each step of the dialogue's
file that names a WAV file is spoken, levelled, and written as mu-law at 8 kHz.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final

import yaml

from common.audio import wav
from scripts.ulaw_recording import levelled, write_ulaw
from simulator.dialogue.reader import BUNDLED

VOICES: Final = {"agent": "slt", "caller": "rms", "interrupt": "rms"}


def spoken_steps() -> list[tuple[str, str, Path]]:
    """Return voice, text and file of each line of the dialogue."""
    steps: list[dict[str, Any]] = yaml.safe_load(BUNDLED.read_text("utf-8"))["steps"]
    return [
        (VOICES[who], " ".join(step[who].split()), BUNDLED.parent / step["wav"])
        for step in steps
        for who in VOICES.keys() & step.keys()
    ]


def main() -> None:
    """Record, convert and write the files."""
    with tempfile.TemporaryDirectory() as folder:
        spoken = Path(folder) / "spoken.wav"
        for voice, text, path in spoken_steps():
            command = ("flite", "-voice", voice, "-t", text, "-o", str(spoken))
            subprocess.run(command, check=True)  # noqa: S603 - a command of our own
            write_ulaw(path, levelled(wav.read_wav(spoken)))


if __name__ == "__main__":
    main()

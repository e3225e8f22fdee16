"""Record the built-in apology (`FALLBACK_WAV=builtin`): `python -m scripts.record_fallback`.

It needs Debian's `espeak-ng`. The sentence is levelled, and written as mu-law at 8 kHz.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from common.audio import wav
from scripts.ulaw_recording import levelled, write_ulaw

TEXT = (
    "We are sorry. There is a technical problem, and we cannot take your call right now. Please try again later."
)
TARGET = Path(__file__).resolve().parents[1] / "dispatcher" / "runner" / "recordings" / "fallback.wav"
# Words a minute: slow enough for a telephone, and fast enough for less than 8 s in all.
ESPEAK = ("espeak-ng", "-v", "en-us", "-s", "168", "-p", "45", "-g", "2")


def main() -> None:
    """Record, convert and write the file."""
    with tempfile.TemporaryDirectory() as folder:
        spoken = Path(folder) / "spoken.wav"
        subprocess.run([*ESPEAK, "-w", str(spoken), TEXT], check=True)  # noqa: S603 - a command of our own
        write_ulaw(TARGET, levelled(wav.read_wav(spoken)))


if __name__ == "__main__":
    main()

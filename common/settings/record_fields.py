"""The settings of what a call leaves behind: its record, and its recording."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field

from common.settings.values import boolean, names, number, whole_number


class RecordFields(BaseModel):
    """The settings of what a call leaves behind."""

    call_records_metadata: Annotated[list[str], BeforeValidator(names)] = Field(
        default=["from", "to"],
        description="fields of a call's metadata that its record has, separated by commas; the log line shows the "
        "last three digits of numbers alone",
    )
    call_records_text: Annotated[bool, BeforeValidator(boolean)] = Field(
        default=False, description="whether a call's record has what was said; the log line never has"
    )
    recordings_dir: Path | None = Field(
        default=None,
        description="folder in which each call is recorded as a stereo WAV file, caller left, agent right; unset: "
        "no call is recorded",
    )
    recordings_keep_seconds: Annotated[float, BeforeValidator(number(0, 10 * 365 * 86_400))] = Field(
        default=30 * 86_400,
        description="time after which a recording is deleted; 0: only RECORDINGS_MAX_BYTES deletes",
    )
    recordings_max_bytes: Annotated[int, BeforeValidator(whole_number(1024 * 1024, 2**50))] = Field(
        default=10 * 1024**3,
        description="size of all recordings in RECORDINGS_DIR, above which the oldest are deleted; an hour of a "
        "call has 115 MB",
    )

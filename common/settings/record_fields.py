"""The settings of what a call leaves behind: its record, and its recording."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field, SecretStr

from common.settings.field_types import HttpUrl, RedisUrl
from common.settings.record_values import function_name, webhook_secret
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
    call_records_dir: Path | None = Field(
        default=None,
        description="folder for call records as JSON lines: one file per process, mode 0600, rotated at 64 MiB",
    )
    call_records_webhook: HttpUrl = Field(
        default=None,
        repr=False,
        description="URL to which each call record is posted, signed as the Standard Webhooks specification says",
    )
    call_records_secret: Annotated[SecretStr | None, BeforeValidator(webhook_secret)] = Field(
        default=None,
        description="secret of the webhook's signatures: whsec_ and base64, or at least 16 plain characters",
    )
    call_records_keep_seconds: Annotated[int, BeforeValidator(whole_number(0, 31_536_000))] = Field(
        default=0, description="time for which the calls API has the records of ended calls; 0: it has none"
    )
    call_records_max_bytes: Annotated[int, BeforeValidator(whole_number(1 << 20, 1 << 28))] = Field(
        default=16 << 20,
        description="maximum size of all call records in Redis, and of those that a process holds; the oldest are "
        "dropped",
    )
    call_records_redis_url: RedisUrl = Field(
        default=None, repr=False, description="another Redis for call records, in place of REDIS_URL"
    )
    call_records_redact: Annotated[str | None, BeforeValidator(function_name)] = Field(
        default=None,
        description="a Python function that redacts what was said, as module:function, from the working directory "
        "or an installed package",
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

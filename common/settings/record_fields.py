"""The settings of what a call leaves behind: its record."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field

from common.settings.values import boolean, names


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

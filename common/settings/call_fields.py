"""The settings of a call's way through the service: tools, transfers, limits and recordings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field

from common.settings.extensions import DEFAULT_CONTEXT
from common.settings.field_types import (
    AmiUrl,
    DialplanContext,
    Extension,
    LimitSeconds,
    Milliseconds,
    Recording,
    Sentence,
    TransferAllowed,
    VariableNames,
)
from common.settings.recordings import BUILTIN, MAX_SECONDS, NONE
from common.settings.values import number


class CallFields(BaseModel):
    """The settings of a call's way through the service."""

    answer_failed_text: Sentence = Field(
        default="Sorry, I did not get that.",
        description="said word for word in place of an answer that the model does not give",
    )
    ami_url: AmiUrl = Field(
        default="http://127.0.0.1:6006", description="avr-ami, for avr_transfer and avr_hangup"
    )
    transfer_context: DialplanContext = Field(
        default=DEFAULT_CONTEXT, description="the dialplan context of an extension that is given without one"
    )
    transfer_allowed: TransferAllowed = Field(
        default=None,
        description="where the model may transfer callers to, separated by commas: exten, exten@context, patterns "
        "as in the dialplan (_00X.@out), internal (1 to 6 digits, or a name of letters, in TRANSFER_CONTEXT), or "
        "none; unset: internal",
    )
    tools_dir: Path = Field(default=Path("tools"), description="the folder of your tools (*.py, *.js, *.mjs)")
    avr_tools_dir: Path | None = Field(
        default=None,
        description="a second folder of your tools, as AVR has it; of two tools with one name, that of TOOLS_DIR "
        "counts; unset: avr_tools beside TOOLS_DIR",
    )
    tool_timeout_seconds: Annotated[float, BeforeValidator(number(0.1, 3600))] = Field(
        default=20, description="how long a tool may take"
    )
    tools_env: VariableNames = Field(
        default_factory=list,
        description="variables that tools see although they are secrets of the service, such as REDIS_URL, with "
        "commas between them; other variables they see anyway",
    )
    dtmf_timeout_ms: Milliseconds = Field(default=1500, description="digits are one entry until # or this silence")
    silence_hangup_seconds: LimitSeconds = Field(
        default=None, description="the silence that ends an abandoned call"
    )
    max_call_seconds: LimitSeconds = Field(default=None, description="how long a call may last")
    prices_file: Path | None = Field(
        default=None, description="prices of tokens and of transcription (JSON); unset: the built-in list"
    )
    upstream_retry_seconds: Annotated[float, BeforeValidator(number(0, 3600))] = Field(
        default=30, description="how long a call waits for a Realtime session that cannot be opened"
    )
    fallback_wav: Recording = Field(
        default=BUILTIN,
        description="played to a caller whose call cannot go on, before the transfer or the end: a WAV file (PCM "
        f"or G.711) of at most {MAX_SECONDS} s, builtin (an apology in English), or none",
    )
    fallback_extension: Extension = Field(
        default=None,
        description="where such a call is transferred to, through avr-ami and whatever TRANSFER_ALLOWED says: "
        "exten or exten@context; unset: it ends",
    )
    filler_wav: Recording = Field(
        default=NONE,
        description="played in a loop to a caller who waits for an answer: a WAV file as above, builtin (soft "
        "tones), or none",
    )
    filler_after_ms: Milliseconds = Field(
        default=1500, description="how long an answer is owed in silence before FILLER_WAV is played"
    )

    @property
    def tools_dirs(self) -> tuple[Path, Path]:
        """TOOLS_DIR, and AVR_TOOLS_DIR."""
        return self.tools_dir, self.avr_tools_dir or Path(os.path.normpath(self.tools_dir / ".." / "avr_tools"))

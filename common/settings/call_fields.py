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
    TenantKey,
    TenantList,
    TransferAllowed,
    VariableNames,
)
from common.settings.recordings import BUILTIN, MAX_SECONDS, NONE
from common.settings.tenants import MAX_TENANTS, Tenants, tenants_of
from common.settings.values import number


class CallFields(BaseModel):
    """The settings of a call's way through the service."""

    answer_failed_text: Sentence = Field(
        default="Sorry, I did not get that.",
        description="text that the agent says word for word instead of a missing answer of the model",
    )
    ami_url: AmiUrl = Field(
        default="http://127.0.0.1:6006", description="URL of avr-ami, for avr_transfer and avr_hangup"
    )
    transfer_context: DialplanContext = Field(
        default=DEFAULT_CONTEXT, description="the dialplan context of an extension without a context"
    )
    transfer_allowed: TransferAllowed = Field(
        default=None,
        description="targets to which the model may transfer callers, separated by commas: exten, exten@context, "
        "patterns as in the dialplan (_00X.@out), internal (1 to 6 digits, or a name of letters, in "
        "TRANSFER_CONTEXT), or none; unset: internal",
    )
    tools_dir: Path = Field(default=Path("tools"), description="the folder of your tools (*.py, *.js, *.mjs)")
    avr_tools_dir: Path | None = Field(
        default=None,
        description="a second folder of your tools, as in AVR; of two tools with one name, the tool in TOOLS_DIR "
        "is used; unset: avr_tools beside TOOLS_DIR",
    )
    tool_timeout_seconds: Annotated[float, BeforeValidator(number(0.1, 3600))] = Field(
        default=20, description="maximum duration of a tool's call"
    )
    tools_env: VariableNames = Field(
        default_factory=list,
        description="variables that tools get although they are secrets of the service, such as REDIS_URL, "
        "separated by commas; tools get all other variables anyway",
    )
    dtmf_timeout_ms: Milliseconds = Field(
        default=1500, description="keys belong to one entry until # or until this time without a key"
    )
    silence_hangup_seconds: LimitSeconds = Field(
        default=None, description="length of the silence that ends an abandoned call"
    )
    max_call_seconds: LimitSeconds = Field(default=None, description="maximum duration of a call")
    prices_file: Path | None = Field(
        default=None, description="prices of tokens and of transcription (JSON); unset: built-in prices"
    )
    upstream_retry_seconds: Annotated[float, BeforeValidator(number(0, 3600))] = Field(
        default=30, description="maximum time that a call waits for a Realtime session that cannot be opened"
    )
    fallback_wav: Recording = Field(
        default=BUILTIN,
        description="recording for callers whose call cannot continue, before the transfer or the end: a WAV file "
        f"(PCM or G.711) of at most {MAX_SECONDS} s, builtin (an apology in English), or none",
    )
    fallback_extension: Extension = Field(
        default=None,
        description="target to which such a call is transferred through avr-ami, regardless of TRANSFER_ALLOWED: "
        "exten or exten@context; unset: the call ends",
    )
    filler_wav: Recording = Field(
        default=NONE,
        description="sound that loops while a caller waits for an answer: a WAV file as above, builtin (soft "
        "tones), or none",
    )
    filler_after_ms: Milliseconds = Field(
        default=1500, description="time that an answer is owed in silence before FILLER_WAV is played"
    )

    tenant_key: TenantKey = Field(
        default=None,
        description="name of the metadata entry, a parameter of STS_URL, that tells a call's tenant; unset: no "
        "call has a tenant",
    )
    tenants: TenantList = Field(
        default_factory=list,
        description=f"known tenants, at most {MAX_TENANTS}, separated by commas, as values of TENANT_KEY, or as "
        "name=value|value, such as acme=+4930123|+4930124,globex; all others are other",
    )

    @property
    def known_tenants(self) -> Tenants:
        """The tenants of TENANT_KEY and TENANTS."""
        return tenants_of(self.tenant_key, tuple(self.tenants))

    @property
    def tools_dirs(self) -> tuple[Path, Path]:
        """TOOLS_DIR and AVR_TOOLS_DIR."""
        return self.tools_dir, self.avr_tools_dir or Path(os.path.normpath(self.tools_dir / ".." / "avr_tools"))

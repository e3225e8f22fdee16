"""The types of the settings' fields: a Python type with the parser of its written form."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, SecretStr

from common.settings.address_values import (
    ami_url,
    base_url,
    dialplan_context,
    extension,
    host_address,
    http_url,
    origins,
    proxy_url,
    recording,
    redis_url,
    transfer_allowed,
)
from common.settings.models import Service
from common.settings.session_values import (
    effort_of,
    language,
    max_tokens,
    mcp_server,
    prompt_variables,
    tool_choice,
    tracing,
    truncation,
    voice_of,
)
from common.settings.tenants import tenant_key, tenant_list
from common.settings.values import (
    Parser,
    api_key,
    boolean,
    json_list,
    json_object,
    number,
    one_of,
    password,
    prose,
    token,
    unless_off,
    variable_names,
    whole_number,
    word,
)


def _optional(parser: Parser) -> BeforeValidator:
    return BeforeValidator(lambda value: None if value is None else parser(value))


Port = Annotated[int, BeforeValidator(whole_number(0, 65_535))]
Milliseconds = Annotated[int, BeforeValidator(whole_number(0, 60_000))]
VadMilliseconds = Annotated[int, BeforeValidator(whole_number(0, 10_000))]
IdleMilliseconds = Annotated[int, BeforeValidator(whole_number(5_000, 30_000))]
LimitSeconds = Annotated[float | None, BeforeValidator(unless_off(number(1, 86_400), "0"))]
MaxTokens = Annotated[int | Literal["inf"], BeforeValidator(max_tokens)]
Language = Annotated[str | None, BeforeValidator(language)]
Voice = Annotated[str, BeforeValidator(voice_of(Service.OTHER))]
Word = Annotated[str, BeforeValidator(word)]
OptionalWord = Annotated[str | None, _optional(word)]
Token = Annotated[SecretStr | None, BeforeValidator(token)]
Password = Annotated[SecretStr | None, BeforeValidator(password)]
ApiKey = Annotated[SecretStr, BeforeValidator(api_key)]
Prose = Annotated[str | None, BeforeValidator(prose)]
Sentence = Annotated[str, BeforeValidator(prose)]
BaseUrl = Annotated[str, BeforeValidator(base_url)]
HttpUrl = Annotated[str | None, _optional(http_url)]
AmiUrl = Annotated[str, BeforeValidator(ami_url)]
ProxyUrl = Annotated[str | None, BeforeValidator(proxy_url)]
RedisUrl = Annotated[str | None, BeforeValidator(redis_url)]
Address = Annotated[str | None, BeforeValidator(host_address)]
Recording = Annotated[str, BeforeValidator(recording)]
Origins = Annotated[list[str] | None, _optional(origins)]
Extension = Annotated[str | None, BeforeValidator(unless_off(extension))]
DialplanContext = Annotated[str, BeforeValidator(dialplan_context)]
TransferAllowed = Annotated[list[str] | None, BeforeValidator(transfer_allowed)]
Boolean = Annotated[bool, BeforeValidator(boolean)]
OptionalBoolean = Annotated[bool | None, _optional(boolean)]
ReasoningEffort = Annotated[str | None, _optional(effort_of(Service.OTHER))]
NoiseReduction = Annotated[str | None, BeforeValidator(unless_off(one_of(("near_field", "far_field"))))]
ToolChoice = Annotated[str | dict[str, Any] | None, _optional(tool_choice)]
Tracing = Annotated[str | dict[str, Any] | None, BeforeValidator(unless_off(tracing))]
Truncation = Annotated[str | dict[str, Any] | None, _optional(truncation)]
PromptVariables = Annotated[dict[str, Any] | None, _optional(prompt_variables)]
McpServers = Annotated[list[dict[str, Any]] | None, _optional(json_list(mcp_server))]
TenantKey = Annotated[str | None, BeforeValidator(unless_off(tenant_key))]
TenantList = Annotated[list[str], BeforeValidator(tenant_list)]
VariableNames = Annotated[list[str], BeforeValidator(variable_names)]
JsonObject = Annotated[dict[str, Any] | None, _optional(json_object)]

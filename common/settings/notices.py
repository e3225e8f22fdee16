"""Warnings at the start: settings without effect, announced shutdowns, and tools that other users may change."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from common.settings import function_tools, models, problems, session_fields
from common.settings.fields import SettingFields
from common.settings.models import Service, Shutdown
from common.settings.writable_paths import writable_paths

MAX_PATHS: Final = 5
"""Maximum number of paths in one line."""

_DETAILS_OF: Final = {
    "server_vad": ("threshold", "silence_ms", "prefix_padding_ms", "idle_timeout_ms"),
    "semantic_vad": ("eagerness",),
    "none": ("threshold", "silence_ms"),
}
_NOT_IN_BETA: Final = (
    "openai_reasoning_effort",
    "openai_truncation",
    "openai_prompt_id",
    "openai_mcp_servers",
    "openai_turn_detection_idle_timeout_ms",
)
_LATER_INSTRUCTIONS: Final = ("openai_url_instructions", "openai_file_instructions")


def notices(settings: SettingFields, given: Collection[str]) -> Iterator[str]:
    """Yield lines for the log.

    Args:
        settings: of the process.
        given: names of the fields that are set.
    """
    service = models.service_of(settings.openai_base_url)
    yield from _shutdowns(settings, given, service)
    yield from _of_the_model(settings, given)
    yield from _of_the_tools(settings, given)
    if "openai_instructions" in given:
        for name in _LATER_INSTRUCTIONS:
            if name in given:
                yield f"{name.upper()} has no effect: OPENAI_INSTRUCTIONS is set and comes first"
    _, changes = session_fields.accepted(settings.openai_session or {})
    for tool, done in function_tools.by_tool(changes).items():
        yield f"OPENAI_SESSION: the API would refuse the tool {tool}: {done}"
    if settings.openai_prompt_id is None:
        for name in ("openai_prompt_version", "openai_prompt_variables"):
            if name in given:
                yield f"{name.upper()} has no effect without OPENAI_PROMPT_ID"
    if settings.tenants and settings.tenant_key is None:
        yield "TENANTS has no effect without TENANT_KEY, the name of the metadata entry that tells the tenant"
    mode = settings.openai_turn_detection.value
    for name in sorted({name for names in _DETAILS_OF.values() for name in names} - set(_DETAILS_OF[mode])):
        if f"openai_turn_detection_{name}" in given:
            yield f"OPENAI_TURN_DETECTION_{name.upper()} has no effect with OPENAI_TURN_DETECTION={mode}"


def _shutdowns(settings: SettingFields, given: Collection[str], service: Service) -> Iterator[str]:
    tables: tuple[tuple[str, Mapping[str, Shutdown]], ...] = (
        ("openai_model", models.MODEL_SHUTDOWNS),
        ("openai_transcription_model", models.TRANSCRIPTION_SHUTDOWNS),
    )
    for name, shutdowns in tables:
        model = getattr(settings, name)
        # Azure and xAI have other shutdown dates; an unknown service may be a proxy to OpenAI.
        if model in shutdowns and (service is Service.OPENAI or (service is Service.OTHER and name in given)):
            shutdown = shutdowns[model]
            yield (
                f"{name.upper()}={model} has a shutdown date at OpenAI, {shutdown.day}: "
                f"change it to {shutdown.replacement}"
            )
    if settings.openai_prompt_id is not None and service is Service.OPENAI:
        yield (
            f"OPENAI_PROMPT_ID: stored prompts have a shutdown date at OpenAI, {models.STORED_PROMPTS_END}: "
            "move their text to OPENAI_INSTRUCTIONS"
        )


def _of_the_model(settings: SettingFields, given: Collection[str]) -> Iterator[str]:
    model = settings.openai_model
    if models.speaks_beta(model):
        for name in _NOT_IN_BETA:
            if name in given:
                yield f"{name.upper()} has no effect with OPENAI_MODEL={model}: the beta dialect has no such field"
        return
    if "openai_temperature" in given:
        yield f"OPENAI_TEMPERATURE has no effect with OPENAI_MODEL={model}: GA sessions have no temperature"
    if "openai_reasoning_effort" in given and models.cannot_reason(model):
        yield f"OPENAI_REASONING_EFFORT has no effect with OPENAI_MODEL={model}: it does not reason"


def _of_the_tools(settings: SettingFields, given: Collection[str]) -> Iterator[str]:
    for name, folder in zip(("TOOLS_DIR", "AVR_TOOLS_DIR"), settings.tools_dirs, strict=True):
        if name.lower() in given and not os.path.isdir(folder):  # noqa: PTH112 - Path raises
            yield f"{name}={problems.shown(folder)!r} is not a folder: none of your tools are loaded"
        writable = writable_paths(folder)
        if not writable:
            continue
        more = f" and {len(writable) - MAX_PATHS} more" if len(writable) > MAX_PATHS else ""
        yield (
            f"{name}: other users may change code that runs with the worker's rights: "
            f"{', '.join(writable[:MAX_PATHS])}{more}; remove their rights: chmod go-w"
        )

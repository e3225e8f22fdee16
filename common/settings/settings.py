"""The settings of the service: read once from the environment and `.env`, typed and checked.

No other module reads the environment. `Settings.load(role)` returns a process's settings or raises
`SettingsError`; `Settings(...)` takes values only as arguments, for tests and tools. The variable of a field is
its name in capitals.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import PrivateAttr, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from common.errors import SettingsError
from common.settings import (
    env_file,
    fallbacks,
    models,
    notices,
    renamed,
    secret_files,
    unknown_names,
    written_values,
)
from common.settings import problems as setting_problems
from common.settings.conflicts import conflicts
from common.settings.fields import NEVER_SHOWN, SECRETS, SettingFields
from common.settings.models import Service
from common.settings.role_secrets import is_withheld
from common.settings.roles import DEFAULT_DRAIN_SECONDS, HOW_TO_SET, NEEDED, Role
from common.settings.values import boolean
from common.settings.written_values import Remark, Written

ENV_FILE: Final = ".env"


class Settings(SettingFields, BaseSettings):
    """All settings of a process, checked. Immutable: a call keeps the settings with which it opened.

    Raises:
        pydantic.ValidationError: by the constructor, for a wrong value. `load` and `parse` raise `SettingsError`.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    _notices: tuple[str, ...] = PrivateAttr(())

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the constructor take only arguments; `load` reads the environment."""
        return (init_settings,)

    @classmethod
    def load(cls, role: Role, *, needed: Collection[str] | None = None) -> Settings:
        """Read the environment, and `.env` in the working directory; the environment wins.

        Args:
            role: of the process.
            needed: names of the settings that must be set; None: those of the role.

        Raises:
            SettingsError: see `parse`.
        """
        try:
            file = env_file.read(Path(ENV_FILE))
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f".env cannot be read: {error}") from None
        written = cls._written(file.variables, role, has_comments=False)
        written.update(cls._written(EnvSettingsSource(cls).env_vars, role))
        return cls._checked(written, role, file.notices(ENV_FILE), NEEDED[role] if needed is None else needed)

    @classmethod
    def parse(cls, variables: Mapping[str, str], role: Role) -> Settings:
        """Read `variables` as `load` reads the environment.

        Raises:
            SettingsError: one line for each wrong, missing or unsupported variable: its name, its value (never a
            secret)
                and the allowed values. Also for each unusable file of a secret.
        """
        return cls._checked(cls._written(variables, role), role, (), NEEDED[role])

    @classmethod
    def _written(cls, variables: Mapping[str, str | None], role: Role, *, has_comments: bool = True) -> Written:
        # All roles share `.env`: variables of other roles are dropped here.
        read = {name: value for name, value in variables.items() if not is_withheld(name, role)}
        read, renamings = renamed.take(read)
        written = written_values.read(read, cls.variable_names(), SECRETS, has_comments=has_comments)
        written.remarks += [Remark(each.name, each.line, None) for each in renamings]
        return written

    @classmethod
    def variable_names(cls) -> frozenset[str]:
        """Return the names of all variables that are read, in lower case. Their case does not matter."""
        return frozenset({*cls.model_fields, *(name + secret_files.SUFFIX for name in SECRETS)})

    @classmethod
    def _checked(
        cls, written: Written, role: Role, lines_of_file: Sequence[str], needed: Collection[str]
    ) -> Settings:
        written.take_prompt()
        with_files = secret_files.read(written.values, SECRETS)
        values, problems = with_files.values, [*written.faults.values(), *with_files.problems]
        given: dict[str, Any] = {name: values[name] for name in cls.model_fields if name in values}
        defaults = _defaults(role, values.get("openai_base_url"))
        replaced = cls._replace_harmless(given, defaults)
        try:
            settings = cls(**(defaults | given))
        except ValidationError as error:
            problems += [_problem(each, with_files.by_file) for each in error.errors()]
        else:
            problems += conflicts(settings, role)
        missing = [
            name
            for name in needed
            if not {name, name + secret_files.SUFFIX}
            & (given.keys() | written.values.keys() | written.faults.keys())
        ]
        problems += [f"{name.upper()} is not set: {HOW_TO_SET[name]}" for name in missing]
        problems += cls._misspelt(written.values.keys(), missing)
        if _is_on(values.get("strict_settings")):
            problems += [each.refusal for each in written.remarks if each.refusal is not None]
            problems += replaced.values()
        if problems:
            raise SettingsError("\n".join(problems))
        settings._notices = (*lines_of_file, *settings._remarks(role, written, given, replaced))
        return settings

    @classmethod
    def _misspelt(cls, given: Collection[str], missing: Collection[str]) -> Iterator[str]:
        """Yield a line for each variable that may be a misspelt name of a missing setting."""
        for name, line in unknown_names.notices(given, cls.variable_names(), ()) if missing else ():
            meant = unknown_names.nearest(name, cls.variable_names())
            if meant is not None and meant.removesuffix(secret_files.SUFFIX) in missing:
                yield line

    @classmethod
    def _replace_harmless(cls, given: dict[str, Any], defaults: dict[str, Any]) -> dict[str, str]:
        """Replace wrong values in `given` where that is harmless; return the problems by name."""
        try:
            cls(**(defaults | given))
        except ValidationError as error:
            wrong = [each for each in error.errors() if each["loc"][0] in fallbacks.HARMLESS]
        else:
            return {}
        replaced = {}
        for each in wrong:
            name = str(each["loc"][0])
            replaced[name] = _problem(each)
            del given[name]
            if (near := fallbacks.nearest(each)) is not None:
                given[name] = near
        return replaced

    def _remarks(
        self, role: Role, written: Written, given: Mapping[str, Any], replaced: Mapping[str, str]
    ) -> Iterator[str]:
        """Yield the lines of `notices`, at most one for each replaced value."""
        # Only workers read OPENAI_*, and report these variables themselves.
        is_read = role is not Role.DISPATCHER
        for name, line in unknown_names.notices(written.values.keys(), self.variable_names(), self.tools_env):
            if is_read or not name.startswith("openai_"):
                yield line
        for remark in written.remarks:
            if is_read or not remark.name.startswith("openai_"):
                yield remark.notice
        if not is_read:
            return
        lines = list(notices.notices(self, given.keys() | replaced.keys()))
        for name, problem in replaced.items():
            without_effect = [line for line in lines if line.startswith(f"{name.upper()} has no effect")]
            yield f"{problem}; {without_effect[0] if without_effect else self._effect(name)}"
            lines = [line for line in lines if line not in without_effect]
        yield from lines

    def _effect(self, name: str) -> str:
        """Describe the effect of a replaced setting."""
        value = getattr(self, name)
        return "it counts as unset" if value is None else f"{value} is used instead"

    @property
    def notices(self) -> tuple[str, ...]:
        """A line for each variable without effect, and for each feature that will stop working."""
        return self._notices


def _defaults(role: Role, base_url: str | None) -> dict[str, Any]:
    """Return the defaults that depend on the role, or on the service at OPENAI_BASE_URL."""
    service = Service.OPENAI if base_url is None else models.service_of(base_url)
    return {
        "drain_seconds": DEFAULT_DRAIN_SECONDS[role],
        "openai_model": models.default_model(service),
        "openai_voice": models.default_voice(service),
        "openai_transcription_model": models.default_transcription_model(service),
    }


def _is_on(value: str | None) -> bool:
    try:
        return value is not None and bool(boolean(value))
    except ValueError:
        return False  # the wrong value has a line of its own


def _problem(error: Mapping[str, Any], by_file: Collection[str] = ()) -> str:
    """Describe one of `ValidationError.errors()` in a line without secrets."""
    name = str(error["loc"][0])
    message = str(error["msg"]).removeprefix("Value error, ")
    if name in by_file:
        return f"{name.upper()}_FILE names a file whose content {message}"
    if name in NEVER_SHOWN:
        return f"{name.upper()} {message}"
    return f"{name.upper()}={setting_problems.shown(error['input'])!r} {message}"

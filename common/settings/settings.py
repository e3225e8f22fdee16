"""The settings of the service: read once from the environment and `.env`, typed and checked.

Nobody else reads the environment. `Settings.load(role)` gives a process its settings or raises
`SettingsError`; `Settings(...)` takes values as arguments alone, for tests and tools. The variable of a field
is its name in capitals.
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
from common.settings.written_values import Written

ENV_FILE: Final = ".env"


class Settings(SettingFields, BaseSettings):
    """All settings of a process, checked. Immutable: a call keeps those that it opened with.

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
        """Lets the constructor take arguments alone: what the environment says comes through `load`."""
        return (init_settings,)

    @classmethod
    def load(cls, role: Role) -> Settings:
        """Reads the environment and `.env` in the working directory; the environment wins.

        Raises:
            SettingsError: see `parse`.
        """
        try:
            file = env_file.read(Path(ENV_FILE))
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f".env cannot be read: {error}") from None
        written = cls._written(file.variables, role, has_comments=False)
        written.update(cls._written(EnvSettingsSource(cls).env_vars, role))
        return cls._checked(written, role, file.notices(ENV_FILE))

    @classmethod
    def parse(cls, variables: Mapping[str, str], role: Role) -> Settings:
        """Reads `variables` as `load` reads the environment.

        Raises:
            SettingsError: one line for each variable that is wrong, missing or not supported by this release:
                its name, its value (never a secret) and what is allowed. Or a file of a secret is of no use.
        """
        return cls._checked(cls._written(variables, role), role)

    @classmethod
    def _written(cls, variables: Mapping[str, str | None], role: Role, *, has_comments: bool = True) -> Written:
        # `.env` is the same for all: what another role reads from it ends here.
        read = {name: value for name, value in variables.items() if not is_withheld(name, role)}
        return written_values.read(read, cls._names(), SECRETS, has_comments=has_comments)

    @classmethod
    def _names(cls) -> frozenset[str]:
        """Return the names of all variables that are read."""
        return frozenset({*cls.model_fields, *(name + secret_files.SUFFIX for name in SECRETS)})

    @classmethod
    def _checked(cls, written: Written, role: Role, lines_of_file: Sequence[str] = ()) -> Settings:
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
        problems += [
            f"{name.upper()} is not set: {HOW_TO_SET[name]}"
            for name in NEEDED[role]
            if not {name, name + secret_files.SUFFIX}
            & (given.keys() | written.values.keys() | written.faults.keys())
        ]
        if _is_on(values.get("strict_settings")):
            problems += [each.refusal for each in written.remarks] + [*replaced.values()]
        if problems:
            raise SettingsError("\n".join(problems))
        settings._notices = (*lines_of_file, *settings._remarks(role, written, given, replaced))
        return settings

    @classmethod
    def _replace_harmless(cls, given: dict[str, Any], defaults: dict[str, Any]) -> dict[str, str]:
        """Replace wrong values in `given` where that is harmless; return what was wrong, by name."""
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
        """Yield the lines of `notices`, one at most for a value that was replaced."""
        # Workers alone read what begins with OPENAI_, and name it themselves.
        is_read = role is not Role.DISPATCHER
        for name, line in unknown_names.notices(written.values.keys(), self._names(), self.tools_env):
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
        """Tell what a setting is that was replaced."""
        value = getattr(self, name)
        return "it counts as unset" if value is None else f"{value} is used instead"

    @property
    def notices(self) -> tuple[str, ...]:
        """A line for each variable that is set and has no effect, and for what will stop working."""
        return self._notices


def _defaults(role: Role, base_url: str | None) -> dict[str, Any]:
    """Defaults that depend on the role, or on who answers at OPENAI_BASE_URL."""
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
        return False  # has a line of its own


def _problem(error: Mapping[str, Any], by_file: Collection[str] = ()) -> str:
    """Describe one of `ValidationError.errors()` in a line without secrets."""
    name = str(error["loc"][0])
    message = str(error["msg"]).removeprefix("Value error, ")
    if name in by_file:
        return f"{name.upper()}_FILE names a file whose content {message}"
    if name in NEVER_SHOWN:
        return f"{name.upper()} {message}"
    return f"{name.upper()}={setting_problems.shown(error['input'])!r} {message}"

"""The environment that `serve` gives to a child: its own, without the secrets that the child does not read.

What a process has, it can lose: in a memory dump, to a package of a tool, to whoever takes it over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from common.settings.child_settings import ChildSettings
from common.settings.role_secrets import is_withheld
from common.settings.roles import Role
from common.settings.settings import Settings

_CHILD_PREFIX = ChildSettings.model_config["env_prefix"]


def environment_of(role: Role | None, variables: Mapping[str, str], granted: Iterable[str] = ()) -> dict[str, str]:
    """Return the part of `variables` that a child may have.

    Variables that are no settings pass, because they may be a tool's or the system's.

    Args:
        role: of the child; None for the embedded Redis, which reads no setting.
        variables: the environment of `serve`.
        granted: names of TOOLS_ENV, which a worker hands to tools, whoever else reads them.
    """
    if role is None:
        return {name: value for name, value in variables.items() if not _is_ours(name)}
    for_tools = frozenset(granted) if role is Role.WORKER else frozenset()
    return {name: value for name, value in variables.items() if name in for_tools or not is_withheld(name, role)}


def _is_ours(name: str) -> bool:
    return name.startswith(_CHILD_PREFIX) or name.lower().removesuffix("_file") in Settings.model_fields

"""The settings that `serve` gives to the processes that it starts."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ChildSettings(BaseSettings):
    """The settings that the supervisor alone sets, for the processes that it starts."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_prefix="AVR_STS_")

    index: int = Field(default=0, description="number of this process within its role, from 0")
    ready_fd: int = Field(default=-1, description="the pipe of the process's heartbeat")
    metrics_dir: Path = Field(default=Path(), description="the folder of all processes' metrics")

    @classmethod
    def load(cls) -> ChildSettings | None:
        """Read the environment; return None for a process that `serve` did not start."""
        child = cls()
        return child if child.model_fields_set else None

    def environment(self) -> dict[str, str]:
        """Return the variables from which the child's `load` makes the same settings."""
        return {f"AVR_STS_{name.upper()}": str(getattr(self, name)) for name in type(self).model_fields}

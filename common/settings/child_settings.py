"""The settings that `serve` gives to the processes that it starts."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ChildSettings(BaseSettings):
    """What `serve` tells the processes that it starts. Set by the supervisor alone, never by people."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_prefix="AVR_STS_")

    index: int = Field(default=0, description="which of its role this process is, from 0")
    ready_fd: int = Field(default=-1, description="the pipe of the process's heartbeat")
    metrics_dir: Path = Field(default=Path(), description="where all processes keep their metrics")

    @classmethod
    def load(cls) -> ChildSettings | None:
        """Returns None for a process that `serve` did not start."""
        child = cls()
        return child if child.model_fields_set else None

    def environment(self) -> dict[str, str]:
        """The variables from which the child's `load` makes the same."""
        return {f"AVR_STS_{name.upper()}": str(getattr(self, name)) for name in type(self).model_fields}

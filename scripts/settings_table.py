"""Write the README's table of settings from the code: `python -m scripts.settings_table`."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from common.settings.settings import Settings
from scripts import written_part

BEGIN = "<!-- settings: written by python -m scripts.settings_table -->"
END = "<!-- end of settings -->"
README = Path(__file__).resolve().parents[1] / "README.md"


def table() -> str:
    """Return the table as Markdown, with a row for each variable."""
    rows = [
        f"| `{name.upper()}` | {_default(field)} | {_meaning(field)} |"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(["| variable | default | meaning |", "| --- | --- | --- |", *rows])


def updated(readme: str) -> str:
    """Return the README with a current table.

    Raises:
        ValueError: the README has no place for the table.
    """
    return written_part.replaced(readme, BEGIN, END, table())


def _meaning(field: FieldInfo) -> str:
    return (field.description or "").replace("|", r"\|").replace("*", r"\*")


def _default(field: FieldInfo) -> str:
    default = field.default
    if isinstance(default, SecretStr):
        return "required"
    told_by_its_meaning = "unset:" in (field.description or "")
    if field.default_factory is not None or default is None or told_by_its_meaning:
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default.value if isinstance(default, Enum) else default}`"


if __name__ == "__main__":
    text = README.read_text("utf-8")
    if "--check" in sys.argv:
        sys.exit(0 if updated(text) == text else "README.md: the settings are out of date")
    README.write_text(updated(text), "utf-8")

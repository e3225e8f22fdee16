"""Write the files of Grafana and Prometheus from the code beside it: `python -m grafana.generate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import yaml

from grafana import alerting
from grafana.conversation import CONVERSATION
from grafana.cost import COST
from grafana.fleet import FLEET
from grafana.overview import OVERVIEW

DIRECTORY: Final = Path(__file__).parent
DASHBOARDS: Final = (OVERVIEW, FLEET, CONVERSATION, COST)

NOTE: Final = "# Written by python -m grafana.generate, from grafana/alerting.py.\n"


def files() -> dict[Path, str]:
    """Return the content of each file, by its path."""
    written = {
        DIRECTORY / "dashboards" / f"{dashboard.name}.json": json.dumps(dashboard.wire(), indent=2) + "\n"
        for dashboard in DASHBOARDS
    }
    for name, groups in alerting.FILES.items():
        written[DIRECTORY / "rules" / f"{name}.yaml"] = NOTE + yaml_of(alerting.plain(alerting.document(groups)))
    return written


def yaml_of(document: dict[str, Any]) -> str:
    """Return a document as YAML."""
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=115)
    return text


def main() -> None:
    """Write all files."""
    for path, text in files().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()

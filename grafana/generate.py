"""Write the files of Grafana and Prometheus from the code beside it: `python -m grafana.generate`.

With `--runbook-url-base URL` the alerts lead to a runbook of your own: `#` and the alert's name in small letters
are appended to the address.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Final

import yaml

from grafana import alerting
from grafana.conversation import CONVERSATION
from grafana.cost import COST
from grafana.fleet import FLEET
from grafana.overview import OVERVIEW
from grafana.rule import RUNBOOK_URL

DIRECTORY: Final = Path(__file__).parent
DASHBOARDS: Final = (OVERVIEW, FLEET, CONVERSATION, COST)

NOTE: Final = "# Written by python -m grafana.generate, from grafana/alerting.py.\n"


def files(runbook: str = RUNBOOK_URL) -> dict[Path, str]:
    """Return the content of each file, by its path; `runbook` is the address of the runbook."""
    written = {
        DIRECTORY / "dashboards" / f"{dashboard.name}.json": json.dumps(dashboard.wire(), indent=2) + "\n"
        for dashboard in DASHBOARDS
    }
    for name, groups in alerting.FILES.items():
        written[DIRECTORY / "rules" / f"{name}.yaml"] = NOTE + yaml_of(
            alerting.plain(alerting.document(groups), runbook)
        )
    return written


def yaml_of(document: dict[str, Any]) -> str:
    """Return a document as YAML."""
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=115)
    return text


def main() -> None:
    """Write all files."""
    parser = argparse.ArgumentParser(description="Write Grafana's dashboards and Prometheus' rules.")
    parser.add_argument("--runbook-url-base", default=RUNBOOK_URL, metavar="URL")
    for path, text in files(parser.parse_args().runbook_url_base).items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()

"""Rules for Prometheus as data: recorded figures, and alerts.

Queries and texts contain placeholders, such as `@scope@` or `@callsLoad@`. `filled` puts the defaults in, for the
files in grafana/rules. The chart's template puts the values of a release in.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from grafana.formulas import Formulas
from grafana.thresholds import ALERTING

RELEASE: Final = "app_kubernetes_io_instance"
"""Label with the name of the Helm release. Series outside Kubernetes do not have it, and do not need it."""

BY: Final = ("namespace", RELEASE)
"""Labels that tell installations apart. A label that is missing has one value for all series, the empty one."""

SCOPE: Final = "@scope@"
"""Placeholder for the matchers of one installation. Each selector of each rule contains it."""

RUNBOOK: Final = "@runbook@"
"""Placeholder for the address of the runbook."""

PLACEHOLDER: Final = re.compile(r"@(\w+)@")

_PROJECT: Final = Path(__file__).parents[1] / "pyproject.toml"
_NO_MATCHER: Final = re.compile(rf"\{{{SCOPE}\}}|, {SCOPE}")


def runbook_of_the_project() -> str:
    """Return the address of docs/runbook.md, which begins with the project's home."""
    home: str = tomllib.loads(_PROJECT.read_text("utf-8"))["project"]["urls"]["Homepage"]
    return f"{home}/blob/main/docs/runbook.md"


RUNBOOK_URL: Final = runbook_of_the_project()


def limit(name: str) -> str:
    """Return the placeholder of a threshold.

    Raises:
        KeyError: there is no such threshold.
    """
    return f"@{name}@" if ALERTING[name] else ""


def over(window: str) -> Formulas:
    """Return the queries of rules over a window, one figure for each installation."""
    return Formulas(matchers=(SCOPE,), window=window, by=BY)


def recorded(name: str) -> str:
    """Return the selector of a recorded series."""
    return f"{name}{{{SCOPE}}}"


def filled(text: str, runbook: str = RUNBOOK_URL) -> str:
    """Return a query or a text with the default thresholds, for all installations that Prometheus knows."""
    text = _NO_MATCHER.sub("", text).replace(RUNBOOK, runbook)
    return PLACEHOLDER.sub(lambda found: f"{ALERTING[found[1]].default:g}", text)


@dataclass(frozen=True, slots=True)
class Recording:
    """A recorded figure, for autoscalers, for long ranges, and for alerts."""

    name: str
    template: str

    @property
    def expr(self) -> str:
        """Return the query with the default values."""
        return filled(self.template)

    def wire(self) -> dict[str, Any]:
        """Return the rule as Prometheus reads it, with placeholders."""
        return {"record": self.name, "expr": self.template}


@dataclass(frozen=True, slots=True)
class When:
    """A figure with its bad values.

    Attributes:
        template: query that returns a value whenever the service runs.
        bad: comparison, such as `> 0.5`. Empty: the query returns bad values alone.
        figure: query that returns a value whenever the service runs, if `template` does not.
    """

    template: str
    bad: str
    figure: str = ""

    @property
    def expr(self) -> str:
        """Return the query of the figure with the default values."""
        return filled(self.figure or self.template)

    def __str__(self) -> str:
        # A comparison binds weaker than arithmetic, and stronger than `and`.
        return f"{self.template} {self.bad}" if self.bad else f"({self.template})"


Case = tuple[When, ...]
"""Conditions that must all hold; the text shows the first one's value."""


@dataclass(frozen=True, slots=True)
class Alert:
    """A condition on which an operator has to act.

    Attributes:
        name: name of the alert, and of its section in docs/runbook.md.
        severity: `critical` if callers notice it now, `warning` if they will notice it.
        lasts: time for which the condition must hold.
        cases: alternatives, each with conditions that must all hold.
        summary: text that names the fault.
        callers: sentence that says what callers notice.
        action: the first thing to do.
        on: labels that the conditions share.
    """

    name: str
    severity: str
    lasts: str
    cases: tuple[Case, ...]
    summary: str
    callers: str
    action: str
    on: tuple[str, ...] = BY

    @property
    def template(self) -> str:
        """Return the query with placeholders."""
        joined = [f" and on ({', '.join(self.on)}) ".join(map(str, case)) for case in self.cases]
        return " or ".join(joined)  # `and` binds stronger than `or`, and comparisons bind stronger than both

    @property
    def expr(self) -> str:
        """Return the query with the default values."""
        return filled(self.template)

    @property
    def annotations(self) -> dict[str, str]:
        """Return the texts; the runbook has the rest."""
        return {
            "summary": self.summary,
            "description": f"{self.callers} {self.action}",
            "runbook_url": f"{RUNBOOK}#{self.name.lower()}",
        }

    def wire(self) -> dict[str, Any]:
        """Return the rule as Prometheus reads it, with placeholders."""
        return {
            "alert": self.name,
            "expr": self.template,
            "for": self.lasts,
            "labels": {"severity": self.severity},
            "annotations": self.annotations,
        }


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated one after another.

    Attributes:
        every: time between two evaluations.
    """

    name: str
    every: str
    rules: tuple[Recording, ...] | tuple[Alert, ...]

    def wire(self) -> dict[str, Any]:
        """Return the group as Prometheus reads it, with placeholders."""
        return {"name": self.name, "interval": self.every, "rules": [rule.wire() for rule in self.rules]}

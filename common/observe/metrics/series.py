"""The registry of a process, the creation of its metrics, and `/metrics`."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, multiprocess, values

from common.observe.shared_values import SharedValues, label_values
from common.observe.value_file import value_class

CONTENT_TYPE: Final = prometheus_client.CONTENT_TYPE_LATEST

PREFIX: Final = "avr_sts_"
_registry = CollectorRegistry()
_rendered = _registry
_shared_directory: Path | None = None
_shared_values: SharedValues | None = None
_former_values: dict[tuple[str, str], set[str]] = {}
"""Values that labels had in earlier processes of this slot, by metric and label."""

# `share` chooses the class of values, not a variable that happens to be in the environment.
values.ValueClass = values.MutexValue
# The creation times of series are not needed, and would double the number of series.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # untyped in the library


def share(directory: Path, identity: str) -> None:
    """Keep this process's values in files under `directory`, which `render` sums up.

    Args:
        directory: one for all processes of a `serve`.
        identity: of the slot that the process fills, not of the process: a restarted process continues the
            counters of its predecessor, so that restarts do not increase the number of files.
    """
    global _shared_directory, _shared_values, _former_values, _rendered  # noqa: PLW0603 - as global as the library's own registry
    values.ValueClass = value_class(directory, identity)
    _shared_directory = directory
    _former_values = label_values(directory, identity)
    _rendered = CollectorRegistry()
    _shared_values = SharedValues(directory)
    _rendered.register(_shared_values)


def mark_process_dead(identity: str) -> None:
    """Remove the gauges of a process that ended; its counters stay."""
    if _shared_directory is not None:
        multiprocess.mark_process_dead(identity, str(_shared_directory))  # type: ignore[no-untyped-call]  # untyped, too


def former_values(metric: str, label: str) -> set[str]:
    """Return the values that a label had in earlier processes of this slot; the metric is given without prefix."""
    return _former_values.get((f"{PREFIX}{metric}", label), set())


def render() -> tuple[bytes, str]:
    """Return the body and content type of `/metrics`, for this process or for all that share their values."""
    return prometheus_client.generate_latest(_rendered), CONTENT_TYPE


def calls_active() -> int | None:
    """Return the number of running calls of this process, or of all that share their values; None: not known."""
    calls = _rendered.get_sample_value(f"{PREFIX}calls_active")
    return None if calls is None else round(calls)


def totals(name: str, label: str) -> dict[str, float]:
    """Return the sums of a counter by the values of one label, of this process or of all that share their values.

    It reads files, so call it in a thread.
    """
    if _shared_values is not None:
        families = _shared_values.counters()
    else:
        families = _registry.restricted_registry([f"{PREFIX}{name}_total"]).collect()
    sums: dict[str, float] = {}
    for family in families:
        for sample in family.samples:
            if sample.name == f"{PREFIX}{name}_total":
                value = sample.labels.get(label, "")
                sums[value] = sums.get(value, 0.0) + sample.value
    return sums


def counter(name: str, help_text: str, *labels: str, prefix: str = PREFIX) -> Counter:
    """Create a counter; its name is given without prefix."""
    return Counter(f"{prefix}{name}", help_text, labels, registry=_registry)  # the library adds _total


def gauge(
    name: str,
    help_text: str,
    over_processes: Literal["livesum", "livemin", "livemax"],
    *labels: str,
    prefix: str = PREFIX,
) -> Gauge:
    """Create a gauge; its name is given without prefix."""
    return Gauge(f"{prefix}{name}", help_text, labels, registry=_registry, multiprocess_mode=over_processes)


def histogram(name: str, help_text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
    """Create a histogram; its name is given without prefix."""
    return Histogram(f"{PREFIX}{name}", help_text, labels, registry=_registry, buckets=buckets)

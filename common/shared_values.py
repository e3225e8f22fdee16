"""The values that all processes of one `serve` keep in files, summed up.

The files are `prometheus_client`'s, and so is the code that reads them. Its own collector parses the name of every
series of every file each time, which takes most of its time; here the files of all processes are added up first,
and a name is parsed once.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.registry import Collector

MAX_PARSED_NAMES: Final = 1 << 16
"""Names of series that are kept parsed: more than there are while labels are bounded."""

Labels = tuple[tuple[str, str], ...]


class SharedValues(Collector):
    """Collects what the processes of one `serve` have in their files under `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterable[Metric]:
        """Returns all metrics, each with the values of all processes together."""
        return itertools.chain(
            _counters(self._add_up("counter_*.db", _plus)),
            _histograms(self._add_up("histogram_*.db", _plus)),
            _gauges(self._add_up("gauge_livesum_*.db", _plus)),
            _gauges(self._add_up("gauge_livemin_*.db", min)),
        )

    def _add_up(self, pattern: str, add: Callable[[float, float], float]) -> dict[str, float]:
        """The value of each series, over all files."""
        values: dict[str, float] = {}
        for file in self._directory.glob(pattern):
            for name, value in _read(file):
                before = values.get(name)
                values[name] = value if before is None else add(before, value)
        return values


def label_values(directory: Path, identity: str) -> dict[tuple[str, str], set[str]]:
    """What labels of counters have been so far in the files of a slot: by metric and label."""
    found: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for name, _ in _read(directory / f"counter_{identity}.db"):
        metric, _, labels, _ = _parse(name)
        for label, value in labels:
            found[metric, label].add(value)
    return found


def _plus(one: float, other: float) -> float:
    return one + other


def _read(file: Path) -> Iterator[tuple[str, float]]:
    """The series of one file: its name, as the library writes it, and value."""
    try:
        # A process that is just starting has an empty file for a moment, which the library cannot read.
        if file.stat().st_size == 0:
            return
        entries = MmapedDict.read_all_values_from_file(str(file))  # type: ignore[no-untyped-call]  # the library's lack
    except FileNotFoundError:  # the gauges of a process that died just now
        return
    for name, value, _, _ in entries:
        yield name, value


@functools.lru_cache(maxsize=MAX_PARSED_NAMES)
def _parse(name: str) -> tuple[str, str, Labels, str]:
    """Metric, sample, labels, help."""
    metric, sample, labels, help_text = json.loads(name)
    return metric, sample, tuple(labels.items()), help_text


def _counters(values: dict[str, float]) -> Iterable[Metric]:
    families: dict[str, CounterMetricFamily] = {}
    for name, value in values.items():
        metric, sample, labels, help_text = _parse(name)
        family = families.get(metric) or families.setdefault(metric, CounterMetricFamily(metric, help_text))
        family.add_sample(sample, dict(labels), value)
    return families.values()


def _gauges(values: dict[str, float]) -> Iterable[Metric]:
    families: dict[str, GaugeMetricFamily] = {}
    for name, value in values.items():
        metric, sample, labels, help_text = _parse(name)
        family = families.get(metric) or families.setdefault(metric, GaugeMetricFamily(metric, help_text))
        family.add_sample(sample, dict(labels), value)
    return families.values()


def _histograms(values: dict[str, float]) -> Iterable[Metric]:
    """In the files, a bucket has what fell into it; in an exposition, also what fell into those below."""
    families: dict[str, HistogramMetricFamily] = {}
    buckets: defaultdict[tuple[str, Labels], list[tuple[str, float]]] = defaultdict(list)
    sums: dict[tuple[str, Labels], float] = {}
    for name, value in values.items():
        metric, sample, labels, help_text = _parse(name)
        if metric not in families:
            families[metric] = HistogramMetricFamily(metric, help_text)
        if sample.endswith("_bucket"):
            series = metric, tuple(label for label in labels if label[0] != "le")
            buckets[series].append((dict(labels)["le"], value))
        else:
            sums[metric, labels] = value
    for (metric, labels), counts in buckets.items():
        counts.sort(key=lambda bound_and_count: float(bound_and_count[0]))
        cumulated = itertools.accumulate(count for _, count in counts)
        family, named, count = families[metric], dict(labels), 0.0
        for (bound, _), count in zip(counts, cumulated, strict=True):
            family.add_sample(f"{metric}_bucket", named | {"le": bound}, count)
        family.add_sample(f"{metric}_count", named, count)
        family.add_sample(f"{metric}_sum", named, sums.get((metric, labels), 0.0))
    return families.values()

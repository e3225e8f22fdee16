"""The sum of the values that all processes of one `serve` keep in files.

The files have the format of `prometheus_client` (`value_file`). The library's own collector reads and parses all
names of all files at each request, which takes most of its time. A file only ever grows. This module reads names
only when there are new ones, and parses each name once. A broken file loses only its own values.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from common.observe.value_file import HEADER_BYTES, VALUE_BYTES, BrokenFile, entries, used_bytes

MAX_PARSED_NAMES: Final = 1 << 16
"""Maximum number of parsed names that are kept: more than exist while labels are bounded."""

_DOUBLE_BYTES: Final = 8

Labels = tuple[tuple[str, str], ...]


class SharedValues(Collector):
    """Collects the values of the processes of one `serve` from their files under `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[Path, _File] = {}
        # Two threads may read: one for `/metrics`, one for the calls API.
        self._reading = threading.Lock()

    def collect(self) -> Iterable[Metric]:
        """Return all metrics, each with the values of all processes together."""
        return itertools.chain(
            _counters(self._add_up("counter_*.db", _plus)),
            _histograms(self._add_up("histogram_*.db", _plus)),
            _gauges(self._add_up("gauge_livesum_*.db", _plus)),
            _gauges(self._add_up("gauge_livemin_*.db", min)),
            _gauges(self._add_up("gauge_livemax_*.db", max)),
        )

    def counters(self) -> Iterable[Metric]:
        """Return the counters alone, which are a small part of all."""
        return _counters(self._add_up("counter_*.db", _plus))

    def _add_up(self, pattern: str, add: Callable[[float, float], float]) -> dict[str, float]:
        """Return the value of each series, over all files."""
        values: dict[str, float] = {}
        with self._reading:
            for path in self._directory.glob(pattern):
                file = self._files.setdefault(path, _File(path))
                for name, value in file.read():
                    before = values.get(name)
                    values[name] = value if before is None else add(before, value)
        return values


def label_values(directory: Path, identity: str) -> dict[tuple[str, str], set[str]]:
    """Return the values that labels of counters have had in the files of a slot, by metric and label."""
    found: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for name, _ in _File(directory / f"counter_{identity}.db").read():
        metric, _, labels, _ = _parse(name)
        for label, value in labels:
            found[metric, label].add(value)
    return found


def _plus(one: float, other: float) -> float:
    return one + other


class _File:
    """A file of values. Its series names are read again when the file grows or is replaced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode = 0
        self._used_bytes = 0
        self._names: list[str] = []
        self._places: list[int] = []

    def read(self) -> Iterable[tuple[str, float]]:
        """Return the series: name, as the library writes it, and value."""
        try:
            with self._path.open("rb") as file:
                inode = os.fstat(file.fileno()).st_ino
                data = file.read(self._used_bytes or HEADER_BYTES)
                used = used_bytes(data)
                if (inode, used) != (self._inode, self._used_bytes):
                    return self._read_names(inode, data + file.read(max(0, used - len(data))))
        # A process has just died, so its gauges are gone; or it is starting, and its file is empty.
        except (FileNotFoundError, BrokenFile):
            return ()
        if len(data) < used:
            return ()
        values = memoryview(data).cast("d")
        return zip(self._names, map(values.__getitem__, self._places), strict=True)

    def _read_names(self, inode: int, data: bytes) -> list[tuple[str, float]]:
        read = [*entries(data)]
        self._names = [name for name, _, _ in read]
        self._places = [position // _DOUBLE_BYTES for _, _, position in read]
        self._used_bytes = read[-1][2] + VALUE_BYTES if read else 0
        self._inode = inode
        return [(name, value) for name, value, _ in read]


@functools.lru_cache(maxsize=MAX_PARSED_NAMES)
def _parse(name: str) -> tuple[str, str, Labels, str]:
    """Return metric, sample, labels and help."""
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
    """Build histograms; a bucket in the files counts its own values, one in an exposition also lower ones."""
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
        if counts[-1][0] != "+Inf":  # the file had no room for the other buckets
            continue
        cumulated = itertools.accumulate(count for _, count in counts)
        family, named, count = families[metric], dict(labels), 0.0
        for (bound, _), count in zip(counts, cumulated, strict=True):
            family.add_sample(f"{metric}_bucket", named | {"le": bound}, count)
        family.add_sample(f"{metric}_count", named, count)
        family.add_sample(f"{metric}_sum", named, sums.get((metric, labels), 0.0))
    return families.values()

"""The result of a run, and its table."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

from tests.chaos.answers import Wait, waits
from tests.chaos.beside_rules import longest_pause
from tests.chaos.facts import Breach, CallFacts, Fault, FaultKind, Part
from tests.chaos.recovery import RECOVERED, recovery_seconds


class Results:
    """The figures of a run, gathered call by call.

    Attributes:
        faults: all faults that were carried out.
        breaches: all breaches that were found.
        records: number of call records that the processes wrote.
    """

    def __init__(self, faults: list[Fault], breaches: list[Breach]) -> None:
        self.faults = faults
        self.breaches = breaches
        self.calls = 0
        self.records = 0
        self.turns = 0
        self.transcripts = 0
        self.interruptions = 0
        self.tool_runs = 0
        self.hung_up: Counter[str] = Counter()
        self.speech_seconds = 0.0
        self.lost_speech_seconds = 0.0
        self.sessions = 0
        self.impossible: Counter[FaultKind] = Counter()
        self.waits: list[Wait] = []
        self._recoveries: dict[FaultKind, list[float]] = defaultdict(list)

    def add(self, call: CallFacts) -> None:
        """Count a call that has ended."""
        self.calls += 1
        self.turns += len(call.utterances)
        self.transcripts += len(call.transcripts)
        self.interruptions += call.interruptions
        self.tool_runs += len(call.tool_runs)
        self.sessions += len(call.sessions)
        self.hung_up[call.hung_up or "nobody"] += 1
        self.speech_seconds += call.speech_seconds
        self.lost_speech_seconds += call.lost_speech_seconds
        if call.part is Part.TALKER:
            self.waits += waits(call)
        for fault in call.beside:
            if (seconds := longest_pause(call, fault)) is not None:
                self._recoveries[fault.kind].append(seconds)
        for fault in call.faults:
            if fault.kind in RECOVERED and (seconds := recovery_seconds(call, fault)) is not None:
                self._recoveries[fault.kind].append(seconds)

    def recoveries(self, kind: FaultKind) -> list[float]:
        """Return the recovery times of all calls that a fault of this kind hit, in seconds."""
        return self._recoveries[kind]

    def table(self) -> str:
        """Return the table for people."""
        broken = {breach.uuid for breach in self.breaches if breach.uuid}
        rows = [("fault", "done", "survived", "calls hit", "recovery p50", "p99", "max")]
        for kind in FaultKind:
            faults = [fault for fault in self.faults if fault.kind is kind]
            if not faults and not self.impossible[kind]:
                continue
            survived = sum(1 for fault in faults if not fault.calls & broken)
            hit = sum(len(fault.calls) for fault in faults)
            rows.append(
                (kind.value, str(len(faults)), str(survived), str(hit), *_quantiles(self._recoveries[kind]))
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join(_padded(row, widths)).rstrip() for row in rows]
        rules = Counter(breach.rule for breach in self.breaches)
        lines += [
            "",
            f"calls      {self.calls}: hung up by {_counted(self.hung_up)}; {self.sessions} Realtime sessions",
            f"           {self.turns} things said, {self.transcripts} transcripts,"
            f" {self.interruptions} interruptions, {self.tool_runs} tools run",
            *self._answers(),
            f"audio lost {self.lost_speech_seconds:.1f} s of {self.speech_seconds:.0f} s of callers' speech,"
            " said while there was no connection",
            f"records    {self.records}, with those of hostile cores",
            f"breaches   {len(self.breaches)}" + (f": {_counted(rules)}" if rules else ""),
        ]
        return "\n".join(lines) + "\n"

    def _answers(self) -> Sequence[str]:
        lines = []
        for name, struck in (("without a fault", False), ("behind a fault", True)):
            waits = [wait for wait in self.waits if wait.struck is struck]
            seconds = [wait.seconds for wait in waits if wait.seconds is not None]
            p50, p99, longest = _quantiles(seconds) if seconds else ("-", "-", "-")
            told = sum(wait.seconds is None and wait.way_out_seconds < math.inf for wait in waits)
            lines.append(
                f"{'' if struck else 'answers':<11}{len(waits)} owed {name}: waited p50 {p50}, p99 {p99},"
                f" max {longest}; {len(waits) - len(seconds) - told} settled by the caller, {told} by the way out"
            )
        return lines


def _quantiles(seconds: Sequence[float]) -> tuple[str, str, str]:
    if not seconds:
        return "", "", ""
    ordered = sorted(seconds)
    p50, p99 = (ordered[math.ceil(share * len(ordered)) - 1] for share in (0.50, 0.99))
    return _shown(p50), _shown(p99), _shown(ordered[-1])


def _shown(seconds: float) -> str:
    return "never" if math.isinf(seconds) else f"{seconds:.2f} s"


def _padded(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    first, *others = zip(row, widths, strict=True)
    return [first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)]


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())

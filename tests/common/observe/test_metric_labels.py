"""The labels of metrics: no label can identify a call, neither by its uuid nor by a telephone number."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from common.observe.call_outcome import EndReason
from tests.common.metric_table import METRICS, PROCESS
from tests.common.speaker import Speaker

REPOSITORY = Path(__file__).resolve().parents[3]

RETRY_REASONS = {
    "failed",
    "rate_limited",
    "context_length",
    "incomplete",
    "empty",
    "refused",
    "unanswered",
    "silent",
}
# Every label with its values. None: another party chooses them, and tests below bound them.
LABELS = {
    "process": {"dispatcher", "worker", "serve"},
    "direction": {"in", "out", "input", "output"},
    "modality": {"text", "audio"},
    "cached": {"true", "false"},
    "outcome": {"completed", "rejected", "failed", "timed_out", "refused"},
    "reason": {"worker_lost", "drain", "dropped", "rollover", "repin"},
    ("calls", "reason"): {reason.value for reason in EndReason},
    ("fallbacks", "outcome"): {"ended", "transferred", "refused", "failed", "hung_up"},
    ("call_records", "outcome"): {"delivered", "dropped", "dead", "redaction_failed", "evicted", "erased"},
    ("answers_retried", "reason"): RETRY_REASONS,
    ("answers_given_up", "reason"): RETRY_REASONS,
    "limit": {"requests", "tokens"},
    "compiled": {"true", "false"},
    "version": None,
    "python": None,
    "key": {"ours", "call"},
    "part": {"end_of_speech", "model", "service"},
    "task": {"tick", "publish", "certificates", "records", "lost_calls", "record", "sweep"},
    ("recording_dropped_seconds", "reason"): {"queue", "disk", "error", "length", "late"},
    ("connections_refused", "reason"): {
        "too_many",
        "too_many_of_address",
        "too_slow",
        "head_too_big",
        "not_http",
        "tls",
        "token",
        "origin",
    },
    "model": None,
    "tenant": None,
    "tool": None,
    "code": None,
    ("bad_input", "reason"): None,
}

# All metrics with a value that another party chooses.
CHOSEN = [
    "metrics.dispatcher().bad_input.inc({!r})",
    "metrics.worker().upstream_errors.inc({!r})",
    "metrics.worker().cost_usd.inc({!r}, '', 1)",
    "metrics.worker().cost_usd.inc('a_model', {!r}, 1)",
    "metrics.dispatcher().call_lasted(1, {!r})",
    "metrics.worker().tokens({!r}).output_audio.inc()",
    "metrics.worker().tool({!r}).ended('refused', 1)",
]

UUID = "3f0c7a52-9b1d-4e8f-a6c4-5d2e1f0b9a87"
OF_A_CALL = [
    UUID,
    UUID.upper(),
    UUID.replace("-", ""),
    f"lookup_{UUID}",
    "abcdefab-cdef-abcd-efab-cdefabcdefab",  # hardly a digit in it
    *(str(uuid.uuid4()) for _ in range(50)),
    "4930123456",
    "0049-30-123-4567",
    "555.123.4567",
    "+4930123456",
    "tel:4930123456",
    "call_5551234",
    "1700000000.123",  # Asterisk's uniqueid
    "PJSIP/trunk-0000001a",
    "20241231",
    "20241231555",
    "",
    "what a caller said",
]

DESCRIBE = (
    "[(metric._name.removeprefix('avr_sts_'), metric._type, list(metric._labelnames))"
    " for metric in dict.fromkeys(metrics.series._registry._names_to_collectors.values())]"
)


def _labels(sample: str) -> list[str]:
    # An empty value stands for an absent label.
    return re.findall(r"\[([^]]+)\]", sample)


@pytest.mark.parametrize("role", ["dispatcher", "worker", "supervisor"])
def test_a_role_has_the_metrics_that_are_promised(start: Callable[..., Speaker], role: str) -> None:
    process = start()
    process.tell(f"metrics.{role}() and 0")
    described = process.tell(DESCRIBE)
    assert isinstance(described, list)
    assert {name: (kind, tuple(labels)) for name, kind, labels in described} == {
        name: (kind, labels) for name, (kind, labels, roles) in METRICS.items() if role in roles.split()
    }


def test_no_gauge_is_exported_by_two_roles() -> None:
    assert all(
        "process" in labels or (" " not in roles and roles != PROCESS)
        for kind, labels, roles in METRICS.values()
        if kind == "gauge"
    )


@pytest.mark.parametrize(("name", "label"), [(name, label) for name in METRICS for label in METRICS[name][1]])
def test_every_label_has_a_rule_for_its_values(name: str, label: str) -> None:
    assert (name, label) in LABELS or label in LABELS


@pytest.mark.parametrize("slot", [None, "worker-0"])
def test_fixed_labels_have_their_values_and_no_others(start: Callable[..., Speaker], slot: str | None) -> None:
    process = start(slot)
    process.tell(
        "metrics.dispatcher() and metrics.supervisor() and 0",
        "metrics.dispatcher().expect_tenants('a_tenant')",
        "metrics.worker().expect_tenants('a_tenant')",
        "metrics.worker().expect_model('a_model')",
        "metrics.worker().expect_tools('a_tool')",
    )
    chosen = {"a_model", "a_tenant", "a_tool", "other"}
    fixed = set().union(*(values for values in LABELS.values() if values))
    for sample in process.scrape():
        bounds = [float(sample_label) for sample_label in _labels(sample) if re.match(r"[-\d+.]", sample_label)]
        assert len(bounds) == ("_bucket[" in sample)
        words = {label for label in _labels(sample) if not re.match(r"[-\d+.]", label)}
        assert words <= fixed | chosen, sample


def test_labels_are_given_values_in_one_folder_alone() -> None:
    sources = [
        file for folder in ("common", "dispatcher", "worker") for file in (REPOSITORY / folder).rglob("*.py")
    ]
    assert len(sources) > 50
    assert {file.parent.name for file in sources if ".labels(" in file.read_text("utf-8")} == {"metrics"}


@pytest.mark.parametrize("expression", CHOSEN)
def test_a_foreign_label_value_identifies_no_call(start: Callable[..., Speaker], expression: str) -> None:
    process = start()
    process.tell(*(expression.format(value) for value in OF_A_CALL))
    chosen = {label for sample in process.scrape() for label in _labels(sample)}
    assert "other" in chosen
    assert chosen.isdisjoint(OF_A_CALL)
    # Nor any part of one.
    assert not any(re.search(r"[0-9a-f]{8}", label, re.IGNORECASE) for label in chosen)


@pytest.mark.parametrize(
    "name", ["gpt-4o-realtime-preview-2024-12-17", "gpt-realtime-2.1-mini-2026-09-01", "http_500", "book-table_v2"]
)
def test_harmless_names_are_kept_as_labels(start: Callable[..., Speaker], name: str) -> None:
    process = start()
    process.tell(f"metrics.worker().upstream_errors.inc({name!r})")
    assert process.scrape()[f"avr_sts_upstream_errors_total[{name}][ours]"] == 1


def test_names_from_the_operator_are_kept_in_any_form(start: Callable[..., Speaker]) -> None:
    process = start()
    process.tell(
        "metrics.worker().expect_model('realtime-20260901')",
        "metrics.worker().tokens('realtime-20260901').output_audio.inc()",
    )
    assert process.scrape()["avr_sts_tokens_total[false][output][audio][realtime-20260901]"] == 1


@pytest.mark.parametrize("expression", CHOSEN)
def test_a_foreign_label_value_carries_no_secret(start: Callable[..., Speaker], expression: str) -> None:
    process = start()
    process.tell("sys.modules['common.observe.redaction'].know('settings', ['Plain-Process-Key'])")
    process.tell(*(expression.format(value) for value in ("plain-process-key", "a_Plain-Process-Key")))
    assert "key" not in str(process.scrape()).lower().replace("key_", "")
    assert "other" in {label for sample in process.scrape() for label in _labels(sample)}

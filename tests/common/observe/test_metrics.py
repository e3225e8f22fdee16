from __future__ import annotations

import platform
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from common.observe.call_outcome import OUTCOMES
from common.observe.metrics import LastingTask, RetryReason
from common.observe.record_outcome import RecordOutcome
from common.observe.recording_drop import RecordingDrop
from tests.common.metric_table import PROCESS_METRICS
from tests.common.speaker import Speaker


def test_a_role_exports_all_of_its_own_series_from_the_start(start: Callable[..., Speaker]) -> None:
    dispatcher, worker, parent = start(), start(), start()
    dispatcher.tell("metrics.dispatcher().expect_tenants('')")
    worker.tell(
        "metrics.worker().expect_tenants('')",
        "metrics.worker().tokens('gpt-realtime-2') and 0",
        "metrics.worker().expect_tools('avr_hangup')",
    )
    parent.tell("metrics.supervisor() and 0")

    of_dispatcher, of_worker, of_parent = (
        {name for name in process.scrape() if "_bucket" not in name and "_sum" not in name}
        for process in (dispatcher, worker, parent)
    )
    assert of_dispatcher == {
        *(f"avr_sts_call_records_total[{outcome}]" for outcome in RecordOutcome),
        "avr_sts_call_records_waiting",
        "avr_sts_call_records_oldest_seconds",
        *(
            f"avr_sts_calls_total[{outcome}][{reason}][]"
            for reason, those in OUTCOMES.items()
            for outcome in those
        ),
        "avr_sts_call_duration_seconds_count[]",
        "avr_sts_greeting_latency_seconds_count",
        "avr_sts_interruptions_total",
        "avr_sts_dtmf_digits_total",
        "avr_sts_caller_audio_gaps_total",
        "avr_sts_caller_audio_gap_seconds_total",
        "avr_sts_caller_audio_jitter_seconds_count",
        "avr_sts_caller_audio_level_dbfs_count",
        "avr_sts_bad_input_total[other]",
        "avr_sts_repins_total[worker_lost]",
        "avr_sts_repins_total[drain]",
        "avr_sts_recovery_seconds_count[worker_lost]",
        "avr_sts_recovery_seconds_count[drain]",
        "avr_sts_recovery_seconds_count[dropped]",
        "avr_sts_recovery_seconds_count[rollover]",
        *(f"avr_sts_fallbacks_total[{each}]" for each in ("ended", "failed", "hung_up", "refused", "transferred")),
        "avr_sts_connections_refused_total[head_too_big]",
        "avr_sts_connections_refused_total[not_http]",
        "avr_sts_connections_refused_total[origin]",
        "avr_sts_connections_refused_total[tls]",
        "avr_sts_connections_refused_total[token]",
        "avr_sts_connections_refused_total[too_many]",
        "avr_sts_connections_refused_total[too_many_of_address]",
        "avr_sts_connections_refused_total[too_slow]",
        "avr_sts_recording_seconds_total",
        *(f"avr_sts_recording_dropped_seconds_total[{reason}]" for reason in RecordingDrop),
        "avr_sts_recording_stopped",
        "avr_sts_redis_up",
        "avr_sts_relay_seconds_count[in][dispatcher]",
        "avr_sts_relay_seconds_count[out][dispatcher]",
        "avr_sts_audio_dropped_seconds_total[in]",
        "avr_sts_audio_dropped_seconds_total[out]",
        "avr_sts_event_loop_lag_seconds_count[dispatcher]",
        "avr_sts_grouping_interval_seconds[dispatcher]",
        "avr_sts_log_lines_dropped_total[dispatcher]",
        "avr_sts_spans_dropped_total[dispatcher]",
        "avr_sts_illegal_transitions_total[dispatcher]",
        *(f"avr_sts_task_failures_total[dispatcher][{task}]" for task in LastingTask),
    }
    assert of_worker == {
        "avr_sts_calls_active",
        "avr_sts_calls_capacity",
        "avr_sts_session_duration_seconds_count[completed]",
        "avr_sts_session_duration_seconds_count[failed]",
        "avr_sts_turn_latency_seconds_count",
        *(f"avr_sts_turn_part_seconds_count[{part}]" for part in ("end_of_speech", "model", "service")),
        "avr_sts_upstream_connect_seconds_count",
        "avr_sts_upstream_sessions_waiting",
        "avr_sts_upstream_errors_total[other][call]",
        "avr_sts_upstream_errors_total[other][ours]",
        "avr_sts_upstream_refused",
        "avr_sts_worker_redis_up",
        "avr_sts_upstream_reconnects_total[dropped]",
        "avr_sts_upstream_reconnects_total[rollover]",
        "avr_sts_upstream_reconnects_total[repin]",
        *(f"avr_sts_answers_retried_total[{reason}]" for reason in RetryReason),
        *(f"avr_sts_answers_given_up_total[{reason}]" for reason in RetryReason),
        "avr_sts_answer_wait_seconds_count",
        "avr_sts_relay_seconds_count[in][worker]",
        "avr_sts_relay_seconds_count[out][worker]",
        "avr_sts_audio_dropped_seconds_total[in]",
        "avr_sts_audio_dropped_seconds_total[out]",
        "avr_sts_event_loop_lag_seconds_count[worker]",
        "avr_sts_grouping_interval_seconds[worker]",
        "avr_sts_log_lines_dropped_total[worker]",
        "avr_sts_spans_dropped_total[worker]",
        "avr_sts_illegal_transitions_total[worker]",
        *(f"avr_sts_task_failures_total[worker][{task}]" for task in LastingTask),
        # cached, direction, modality, model
        "avr_sts_tokens_total[false][input][text][gpt-realtime-2]",
        "avr_sts_tokens_total[true][input][text][gpt-realtime-2]",
        "avr_sts_tokens_total[false][input][audio][gpt-realtime-2]",
        "avr_sts_tokens_total[true][input][audio][gpt-realtime-2]",
        "avr_sts_tokens_total[false][output][text][gpt-realtime-2]",
        "avr_sts_tokens_total[false][output][audio][gpt-realtime-2]",
        "avr_sts_cost_usd_total[other][]",
        # outcome, tool
        *(
            f"avr_sts_{name}[{outcome}][avr_hangup]"
            for name in ("tool_calls_total", "tool_duration_seconds_count")
            for outcome in ("completed", "failed", "timed_out", "refused")
        ),
    }
    assert of_parent == {
        *(f"avr_sts_{child}_restarts_total" for child in ("dispatcher", "redis", "worker")),
        "avr_sts_log_lines_dropped_total[serve]",
    }
    assert not any(dispatcher.scrape().values())


def test_both_roles_can_live_in_one_process(start: Callable[..., Speaker]) -> None:
    both = start()
    both.tell("metrics.dispatcher().relay_in.observe(0.002)", "metrics.worker().relay_in.observe(0.003)")
    samples = both.scrape()
    assert samples["avr_sts_relay_seconds_sum[in][dispatcher]"] == 0.002
    assert samples["avr_sts_relay_seconds_sum[in][worker]"] == 0.003


@pytest.mark.parametrize(
    ("name", "lowest", "highest"),
    [
        ("turn_latency_seconds", 0.2, 8),
        ("session_duration_seconds", 10, 3600),
        ("tool_duration_seconds", 0.01, 60),
        ("relay_seconds", 0.0001, 1),
    ],
)
def test_buckets_cover_the_contracts_range(
    start: Callable[..., Speaker], name: str, lowest: float, highest: float
) -> None:
    process = start()
    process.tell("metrics.worker().expect_tools('find')")
    bounds = {
        float(found[1])
        for sample in process.scrape()
        if (found := re.match(rf"avr_sts_{name}_bucket.*?\[([0-9.e-]+)\]", sample))
    }
    assert (min(bounds), max(bounds)) == (lowest, highest)


@pytest.mark.parametrize("name", [None, "dispatcher-0"])
def test_the_values_of_a_label_are_bounded(start: Callable[..., Speaker], name: str | None) -> None:
    process = start(name)
    process.tell("metrics.dispatcher().bad_input.expect('flood', 'not_json')")
    process.tell("[metrics.dispatcher().bad_input.inc(f'r{n}') for n in range(1000)]")
    process.tell("metrics.dispatcher().bad_input.inc('flood')")
    process.tell("metrics.dispatcher().bad_input.inc('what a caller said')")
    process.tell("metrics.dispatcher().bad_input.inc('x' * 65)")
    samples = {name: value for name, value in process.scrape().items() if "bad_input_total" in name}
    assert len(samples) == 1 + 2 + 40
    assert samples["avr_sts_bad_input_total[flood]"] == 1
    assert samples["avr_sts_bad_input_total[not_json]"] == 0
    assert samples["avr_sts_bad_input_total[r39]"] == 1
    assert samples["avr_sts_bad_input_total[other]"] == 960 + 2


def test_the_models_of_a_label_are_bounded(start: Callable[..., Speaker]) -> None:
    process = start()
    process.tell("[metrics.worker().tokens(f'm{n}').output_audio.inc() for n in range(1000)]")
    process.tell("metrics.worker().tokens('a model').output_audio.inc()")
    samples = {name: value for name, value in process.scrape().items() if "[output][audio]" in name}
    assert len(samples) == 40 + 1
    assert samples["avr_sts_tokens_total[false][output][audio][other]"] == 960 + 1


def test_cost_is_counted_in_fractions_of_a_dollar_by_model(start: Callable[..., Speaker]) -> None:
    process = start()
    process.tell(
        "metrics.worker().cost_usd.inc('gpt-realtime-2', '', 0.0125)",
        "metrics.worker().cost_usd.inc('gpt-realtime-2', '', 0.0375)",
    )
    assert process.scrape()["avr_sts_cost_usd_total[gpt-realtime-2][]"] == 0.05


def test_calls_of_tools_are_counted_and_timed_by_outcome(start: Callable[..., Speaker]) -> None:
    process = start()
    process.tell(
        "metrics.worker().tool('find').ended('completed', 0.25)",
        "metrics.worker().tool('find').ended('completed', 0.5)",
        "metrics.worker().tool('find').ended('timed_out', 20)",
    )
    samples = process.scrape()
    assert samples["avr_sts_tool_calls_total[completed][find]"] == 2
    assert samples["avr_sts_tool_calls_total[timed_out][find]"] == 1
    assert samples["avr_sts_tool_calls_total[failed][find]"] == 0
    assert samples["avr_sts_tool_duration_seconds_sum[completed][find]"] == 0.75
    assert samples["avr_sts_tool_duration_seconds_sum[timed_out][find]"] == 20


def test_invented_tools_share_one_series_beyond_the_bound(start: Callable[..., Speaker]) -> None:
    process = start()
    process.tell("metrics.worker().expect_tools('avr_hangup', 'avr_transfer')")
    process.tell("[metrics.worker().tool(f't{n}').ended('refused', 0) for n in range(1000)]")
    process.tell("metrics.worker().tool('avr_hangup').ended('completed', 0)")
    samples = {name: value for name, value in process.scrape().items() if "tool_calls_total" in name}
    assert len(samples) == 4 * (2 + 40 + 1)
    assert samples["avr_sts_tool_calls_total[refused][other]"] == 960
    assert samples["avr_sts_tool_calls_total[completed][avr_hangup]"] == 1


def test_any_process_answers_for_all(start: Callable[..., Speaker]) -> None:
    dispatcher, workers = start("dispatcher-0"), [start(f"worker-{index}") for index in range(3)]
    dispatcher.tell("metrics.dispatcher().redis_up.set(1)")
    for index, worker in enumerate(workers):
        worker.tell(
            f"metrics.worker().calls_active.set({index + 1})",
            "metrics.worker().calls_capacity.set(200)",
            "metrics.worker().upstream_errors.inc('server_error')",
            f"metrics.worker().turn_latency.observe({0.25 * (index + 1)})",
        )
    samples = dispatcher.scrape()
    assert samples == workers[0].scrape()
    assert samples["avr_sts_calls_active"] == 6
    assert samples["avr_sts_calls_capacity"] == 600
    assert samples["avr_sts_upstream_errors_total[server_error][ours]"] == 3
    assert samples["avr_sts_turn_latency_seconds_count"] == 3
    assert samples["avr_sts_turn_latency_seconds_bucket[0.5]"] == 2
    assert samples["avr_sts_turn_latency_seconds_sum"] == 1.5
    assert samples["avr_sts_redis_up"] == 1


def test_redis_is_down_when_one_dispatcher_says_so(start: Callable[..., Speaker]) -> None:
    one, other = start("dispatcher-0"), start("dispatcher-1")
    one.tell("metrics.dispatcher().redis_up.set(1)")
    other.tell("metrics.dispatcher().redis_up.set(0)")
    assert one.scrape()["avr_sts_redis_up"] == 0
    other.tell("metrics.dispatcher().redis_up.set(1)")
    assert one.scrape()["avr_sts_redis_up"] == 1


def test_oldest_record_is_that_of_any_dispatcher(start: Callable[..., Speaker]) -> None:
    one, other = start("dispatcher-0"), start("dispatcher-1")
    for process, waiting, oldest in ((one, 2, 30), (other, 3, 900)):
        process.tell(
            f"metrics.dispatcher().call_records_waiting.set({waiting})",
            f"metrics.dispatcher().call_records_oldest.set({oldest})",
        )
    samples = one.scrape()
    assert samples["avr_sts_call_records_waiting"] == 5
    assert samples["avr_sts_call_records_oldest_seconds"] == 900


def test_gauges_of_the_dead_go_and_counters_stay(start: Callable[..., Speaker]) -> None:
    parent, dead, alive = start("serve"), start("worker-0"), start("worker-1")
    for worker, calls in ((dead, 5), (alive, 7)):
        worker.tell(
            f"metrics.worker().calls_active.set({calls})",
            f"metrics.worker().tokens('m').output_audio.inc({calls})",
            "metrics.worker().turn_latency.observe(1)",
        )
    dead.kill()
    parent.tell("metrics.mark_process_dead('worker-0')", "metrics.supervisor().worker_restarts.inc()")
    samples = alive.scrape()
    assert samples["avr_sts_calls_active"] == 7
    assert samples["avr_sts_tokens_total[false][output][audio][m]"] == 12
    assert samples["avr_sts_turn_latency_seconds_count"] == 2
    assert samples["avr_sts_worker_restarts_total"] == 1


def test_a_restarted_process_continues_its_slots_counters(start: Callable[..., Speaker], tmp_path: Path) -> None:
    parent = start("serve")
    files = set()
    for life in range(1, 4):
        worker = start("worker-0")
        worker.tell(
            "metrics.worker().calls_active.inc()",
            "metrics.worker().upstream_errors.inc('server_error')",
            "metrics.worker().turn_latency.observe(1)",
        )
        samples = parent.scrape()
        assert samples["avr_sts_calls_active"] == 1
        assert samples["avr_sts_upstream_errors_total[server_error][ours]"] == life
        assert samples["avr_sts_turn_latency_seconds_count"] == life
        files.add(frozenset(file.name for file in tmp_path.iterdir()))
        worker.kill()
        parent.tell("metrics.mark_process_dead('worker-0')")
    assert len(files) == 1


def test_labels_of_the_dead_count_for_their_successors(start: Callable[..., Speaker], tmp_path: Path) -> None:
    sizes = []
    for life in range(4):
        worker = start("worker-0")
        worker.tell(
            "metrics.worker().upstream_errors.expect('timeout')",
            f"[metrics.worker().upstream_errors.inc(f'life{life}-{{n}}') for n in range(100)]",
            f"[metrics.worker().tokens(f'life{life}-{{n}}').output_audio.inc() for n in range(100)]",
            f"[metrics.worker().tool(f'life{life}-{{n}}').ended('completed', 1) for n in range(100)]",
        )
        worker.kill()
        sizes.append({file.name: file.stat().st_size for file in tmp_path.iterdir()})
    assert sizes[0] == sizes[-1]
    samples = start("serve").scrape()
    errors = {name: value for name, value in samples.items() if "upstream_errors_total" in name}
    assert len(errors) == 2 * (40 + len(("timeout", "other")))
    assert errors["avr_sts_upstream_errors_total[other][ours]"] == 60 + 3 * 100
    assert samples["avr_sts_upstream_errors_total[life0-39][ours]"] == 1


def test_the_answer_is_the_librarys_own(start: Callable[..., Speaker], tmp_path: Path) -> None:
    """Whatever happens to the files between two scrapes: new series, a slot filled anew, a slot that is empty."""
    asked = start("dispatcher-0")
    asked.tell("metrics.dispatcher().redis_up.set(1)")
    library = (
        "sorted(metrics.series.prometheus_client.generate_latest(metrics.series.multiprocess.MultiProcessCollector("
        f"metrics.series.CollectorRegistry(), {str(tmp_path)!r})).decode().splitlines())"
    )
    ours = "sorted(metrics.render()[0].decode().splitlines())"
    for life in range(3):
        worker = start(f"worker-{life % 2}")
        worker.tell("metrics.worker().calls_active.set(3)", f"metrics.worker().relay_in.observe(0.00{life + 1})")
        assert asked.tell(ours) == asked.tell(library)
        worker.tell(
            f"metrics.worker().tokens('m{life}').output_audio.inc(7)", "metrics.worker().tool('find') and 0"
        )
        assert asked.tell(ours) == asked.tell(library)
        worker.kill()
        asked.tell(f"metrics.mark_process_dead('worker-{life % 2}')")
        assert asked.tell(ours) == asked.tell(library)


def test_16_workers_are_one_answer_with_each_series_once(start: Callable[..., Speaker], tmp_path: Path) -> None:
    expressions = (
        "metrics.worker().expect_tools('avr_hangup')",
        "metrics.worker().tokens('m').input_text.inc(3)",
        "metrics.worker().tool('avr_hangup').ended('completed', 0.3)",
        "metrics.worker().relay_in.observe(0.0003)",
        "metrics.worker().calls_active.set(2)",
    )
    one = start()
    one.tell(*expressions)
    alone = one.scrape()
    for index in range(16):
        worker = start(f"worker-{index}")
        worker.tell(*expressions)
    together = worker.scrape()
    assert together == {name: pytest.approx(value * 16) for name, value in alone.items()}
    kinds = ("counter", "gauge_livesum", "gauge_livemin", "gauge_livemax", "histogram")
    assert len([*tmp_path.iterdir()]) == 16 * len(kinds)


def test_totals_are_sums_by_one_label_over_all_processes(start: Callable[..., Speaker]) -> None:
    def end(outcome: str, reason: str, tenant: str) -> str:
        return f"metrics.dispatcher().call_ended(CallOutcome.{outcome}, EndReason.{reason}, {tenant!r})"

    names = "exec('from common.observe.call_outcome import CallOutcome, EndReason', globals())"
    for shares in (True, False):
        first = start("dispatcher-0") if shares else start()
        first.tell(names, end("FAILED", "UPSTREAM", ""), end("FAILED", "NO_ANSWER", ""))
        last = start("dispatcher-1") if shares else first
        last.tell(names, end("FAILED", "UPSTREAM", ""), end("COMPLETED", "CALLER_HUNG_UP", ""))
        found = last.tell("metrics.totals('calls', 'outcome')")
        assert found == {"failed": 3.0, "completed": 1.0, "rejected": 0.0}
        assert last.tell("metrics.totals('nothing', 'outcome')") == {}


def test_a_starting_process_does_not_spoil_the_answer(start: Callable[..., Speaker], tmp_path: Path) -> None:
    process = start("dispatcher-0")
    process.tell("metrics.dispatcher().interruptions.inc()")
    (tmp_path / "counter_worker-0.db").touch()
    assert process.scrape()["avr_sts_interruptions_total"] == 1


def test_without_shared_files_no_process_is_marked_dead(start: Callable[..., Speaker]) -> None:
    assert start().tell("metrics.mark_process_dead('worker-0')") is None


@pytest.mark.parametrize("name", [None, "dispatcher-0"])
def test_the_answer_has_the_content_type_of_prometheus(start: Callable[..., Speaker], name: str | None) -> None:
    content_type = start(name).tell("metrics.render()[1]")
    assert isinstance(content_type, str)
    assert content_type.startswith("text/plain; version=")


PROCESS = "metrics.ProcessMetrics({!r}, {!r}, release='1.2.3', compiled=True)"


def test_a_process_has_its_own_series_in_the_answer_of_all(start: Callable[..., Speaker]) -> None:
    speakers = {("dispatcher", "0"): start("dispatcher-0"), ("serve", ""): start("serve")}
    speakers |= {("worker", str(index)): start(f"worker-{index}") for index in range(2)}
    for (process, slot), speaker in speakers.items():
        speaker.tell(f"{PROCESS.format(process, slot)}.sample()")
    samples = start("dispatcher-1").scrape()
    for name in PROCESS_METRICS:
        sample = f"{name}_total" if PROCESS_METRICS[name] == "counter" else name
        assert {each for each in samples if each.startswith(f"{name}")} == {
            f"{sample}[{process}][{slot}]" for process, slot in speakers
        }
    assert samples["process_resident_memory_bytes[worker][1]"] > 1e6
    assert samples["process_start_time_seconds[serve][]"] > 1e9
    assert 3 <= samples["process_open_fds[worker][0]"] < samples["process_max_fds[worker][0]"]
    # Two workers of one release are one series.
    release = {name: value for name, value in samples.items() if name.startswith("avr_sts_build_info")}
    assert release == {
        f"avr_sts_build_info[true][{process}][{platform.python_version()}][1.2.3]": 1
        for process in ("dispatcher", "serve", "worker")
    }


def test_cpu_time_of_a_slot_grows_with_its_next_process(start: Callable[..., Speaker]) -> None:
    parent, series, used = start("serve"), "process_cpu_seconds_total[worker][0]", 0.0
    for _ in range(2):
        worker = start("worker-0")
        worker.tell(f"{PROCESS.format('worker', '0')}.sample()")
        before, used = used, parent.scrape()[series]
        assert used > before
        worker.kill()
        parent.tell("metrics.mark_process_dead('worker-0')")
    assert "process_open_fds[worker][0]" not in parent.scrape(), "gauges of a dead process are gone"
    assert parent.scrape()[series] == used


def test_a_process_alone_has_its_series(start: Callable[..., Speaker]) -> None:
    worker = start()
    worker.tell(f"{PROCESS.format('worker', '')}.sample()")
    samples = worker.scrape()
    assert samples["process_resident_memory_bytes[worker][]"] > 1e6
    assert f"avr_sts_build_info[true][worker][{platform.python_version()}][1.2.3]" in samples


def test_a_second_sample_adds_the_time_since_the_first(start: Callable[..., Speaker]) -> None:
    worker, series = start(), "process_cpu_seconds_total[worker][]"
    worker.tell("globals().update(measured=" + PROCESS.format("worker", "") + ")", "measured.sample()")
    first = worker.scrape()[series]
    worker.tell("sum(range(3_000_000)) and 0", "measured.sample()")
    assert first < worker.scrape()[series] < first + 60

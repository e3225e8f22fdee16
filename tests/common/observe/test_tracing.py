"""What switches traces on, and what it costs where it does not."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from common.observe.tracing import NO_TRACER, WallClock, exporters, start

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317"}


@pytest.mark.parametrize(
    ("variables", "names"),
    [
        ({}, ()),
        ({"OTEL_SERVICE_NAME": "avr", "OTEL_TRACES_SAMPLER": "always_on"}, ()),
        (ENDPOINT, ("otlp",)),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4317"}, ("otlp",)),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, ()),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, ("otlp",)),
        ({"OTEL_TRACES_EXPORTER": "otlp, Console,otlp"}, ("otlp", "console")),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, ()),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": ""}, ("otlp",)),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "TRUE"}, ()),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "yes"}, ("otlp",)),
    ],
)
def test_standard_variables_switch_traces_on(variables: dict[str, str], names: tuple[str, ...]) -> None:
    assert exporters(variables) == names


def test_without_variables_there_is_no_tracer() -> None:
    assert start({}, role="worker", instance="w", release="1.2.3", dropped=lambda _: None) is NO_TRACER


def test_without_variables_no_exporter_is_imported() -> None:
    """redis-py imports parts of OpenTelemetry by itself where that is installed, and uses none of them."""
    program = (
        "import sys, dispatcher.main, worker.main\n"
        "from common.observe import tracing\n"
        "tracing.start({}, role='worker', instance='w', release='1', dropped=print)\n"
        "ours = ('grpc', 'google', 'opentelemetry.exporter', 'opentelemetry.proto', 'common.observe.span')\n"
        "print([name for name in sys.modules if name.startswith(ours)])"
    )
    ran = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_wall_clock_follows_the_monotonic_one() -> None:
    clock = WallClock()
    assert abs(clock.ns(time.monotonic()) - time.time_ns()) < 1e9
    assert clock.ns(2.5) - clock.ns(1.0) == 1_500_000_000

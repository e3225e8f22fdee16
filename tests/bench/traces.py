"""A collector of traces in a process of its own: `python -m tests.bench.traces` prints its port.

It counts spans and keeps none, so that `make bench BENCH=traces` measures the service alone.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from concurrent import futures
from contextlib import asynccontextmanager

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class SpanCounter(trace_service_pb2_grpc.TraceServiceServicer):
    """Counts the spans that it gets."""

    def __init__(self) -> None:
        self.spans = 0

    def Export(  # noqa: N802 - the name in the protocol
        self, request: ExportTraceServiceRequest, _: grpc.ServicerContext
    ) -> ExportTraceServiceResponse:
        self.spans += sum(len(scope.spans) for each in request.resource_spans for scope in each.scope_spans)
        return ExportTraceServiceResponse()


@asynccontextmanager
async def collecting() -> AsyncIterator[tuple[str, list[int]]]:
    """Run a collector; yield its endpoint, and a list that has the number of spans at the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.traces"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    spans: list[int] = []
    try:
        yield f"http://127.0.0.1:{int(await process.stdout.readline())}", spans
    finally:
        process.stdin.close()
        told, _ = await process.communicate()
        spans.append(int(told))


def main() -> None:
    """Collect until stdin is closed."""
    counter = SpanCounter()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    add = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    add(counter, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.stop(None).wait()
    sys.stdout.write(f"{counter.spans}\n")


if __name__ == "__main__":
    main()

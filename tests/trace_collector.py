"""A collector of traces: a gRPC server with the service of `opentelemetry-proto`, on a port of loopback."""

from __future__ import annotations

import threading
from concurrent import futures
from dataclasses import dataclass
from typing import Any, Self

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue


@dataclass(frozen=True, slots=True)
class Exported:
    """One span as the collector got it.

    Attributes:
        resource: attributes of the process.
        began_seconds: since the epoch.
    """

    resource: dict[str, Any]
    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    began_seconds: float
    ended_seconds: float
    attributes: dict[str, Any]
    events: tuple[str, ...]
    is_error: bool

    @property
    def seconds(self) -> float:
        return self.ended_seconds - self.began_seconds


class TraceCollector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps all that it gets.

    Attributes:
        requests: in order.
        metadata: of each request.
    """

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.metadata: list[dict[str, str]] = []
        self.is_open = threading.Event()
        self.is_open.set()
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        add = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
        add(self, self._server)  # type: ignore[no-untyped-call]
        self.port = self._server.add_insecure_port("127.0.0.1:0")

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_open.set()
        self._server.stop(None).wait()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def Export(  # noqa: N802 - the name in the protocol
        self, request: ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> ExportTraceServiceResponse:
        self.is_open.wait()
        self.metadata.append({key: str(value) for key, value in context.invocation_metadata()})
        self.requests.append(request)
        return ExportTraceServiceResponse()

    @property
    def spans(self) -> list[Exported]:
        return [
            Exported(
                resource={each.key: _value(each.value) for each in of_process.resource.attributes},
                name=span.name,
                kind=span.kind,
                trace_id=span.trace_id.hex(),
                span_id=span.span_id.hex(),
                parent_id=span.parent_span_id.hex(),
                began_seconds=span.start_time_unix_nano / 1e9,
                ended_seconds=span.end_time_unix_nano / 1e9,
                attributes={each.key: _value(each.value) for each in span.attributes},
                events=tuple(each.name for each in span.events),
                is_error=span.status.code == 2,
            )
            for request in list(self.requests)
            for of_process in request.resource_spans
            for of_scope in of_process.scope_spans
            for span in of_scope.spans
        ]

    def named(self, name: str) -> list[Exported]:
        return [span for span in self.spans if span.name == name]

    @property
    def raw(self) -> bytes:
        return b"".join(request.SerializeToString() for request in list(self.requests))


def _value(value: AnyValue) -> Any:
    if value.HasField("array_value"):
        return [_value(each) for each in value.array_value.values]
    kind = value.WhichOneof("value")
    return None if kind is None else getattr(value, kind)

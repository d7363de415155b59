"""A stand-in for an OpenTelemetry collector: takes spans over OTLP, and keeps them by trace."""

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import NamedTuple, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from embedded.ports import LOOPBACK


class Span(NamedTuple):
    """One span, as far as the tests ask; ids in hexadecimal digits, no parent is empty."""

    service: str
    name: str
    trace: str
    id: str
    parent: str


class Collector:
    """Listens on a port of the loopback interface while the block runs."""

    def __init__(self) -> None:
        self._spans: list[Span] = []
        kept = self._spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                # The exporter may compress.
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                kept.extend(_spans_of(ExportTraceServiceRequest.FromString(body)))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_args: object) -> None:
                """Nothing: the tests' output is not for it."""

        self._server = ThreadingHTTPServer((LOOPBACK, 0), Handler)

    @property
    def url(self) -> str:
        """What OTEL_EXPORTER_OTLP_ENDPOINT has to be."""
        return f"http://{LOOPBACK}:{self._server.server_port}"

    def traces(self) -> dict[str, list[Span]]:
        """All spans that have come, by their traces."""
        found: dict[str, list[Span]] = {}
        for span in list(self._spans):
            found.setdefault(span.trace, []).append(span)
        return found

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def _spans_of(request: ExportTraceServiceRequest) -> list[Span]:
    return [
        Span(
            service=next(
                one.value.string_value
                for one in resource.resource.attributes
                if one.key == "service.name"
            ),
            name=span.name,
            trace=span.trace_id.hex(),
            id=span.span_id.hex(),
            parent=span.parent_span_id.hex(),
        )
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]

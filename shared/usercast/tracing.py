"""Traces: which change's work this is, from the request that made it to the push to browsers.

One context, OpenTelemetry's, travels as W3C ``traceparent``: in a request's header, in the outbox,
in each change's event, in the message's attribute, in the push. Its trace id is the correlation id
of every log line. Spans are recorded and sent only where the SDK is installed (the extra ``otel``)
and ``OTEL_EXPORTER_OTLP_ENDPOINT`` is set; without, they cost next to nothing and only pass the
context on.
"""

import os
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from opentelemetry import context, trace
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from usercast.errors import ConfigurationError

__all__ = ["Span", "SpanKind"]

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
#: What a traceparent's text takes; longer is none.
LENGTH = 55
#: A span is linked to at most so many: a packed message may hold changes of hundreds.
MAX_TRACES = 64

_tracer = trace.get_tracer("usercast")
_text_map = TraceContextTextMapPropagator()


def record(service: str, process: str) -> None:
    """Have this process's spans recorded and sent, if the environment names an endpoint.

    Raises:
        ConfigurationError: it does, and the SDK is not installed.
    """
    if not os.environ.get(ENDPOINT):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ConfigurationError(
            f"{ENDPOINT} is set, but the extra is not installed: pip install 'usercast[otel]'"
        ) from error
    provider = TracerProvider(
        resource=Resource.create({"service.name": service, "usercast.process": process})
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def current() -> str:
    """The context's traceparent; empty outside any."""
    return _text(trace.get_current_span().get_span_context())


def trace_id() -> str | None:
    """The context's correlation id: 32 hexadecimal digits; None outside any."""
    found = trace.get_current_span().get_span_context()
    return f"{found.trace_id:032x}" if found.is_valid else None


def parse(traceparent: str | None) -> SpanContext | None:
    """The context that a traceparent stands for; None if it is no valid one."""
    if not traceparent or len(traceparent) > LENGTH:
        return None
    extracted = _text_map.extract({"traceparent": traceparent})
    found = trace.get_current_span(extracted).get_span_context()
    return found if found.is_valid else None


def trace_ids(traceparents: Iterable[str | None]) -> list[str]:
    """The distinct correlation ids of these, in their order, for a log line."""
    return list(dict.fromkeys(one[3:35] for one in traceparents if one and len(one) == LENGTH))


def representatives(traceparents: Iterable[str | None]) -> list[str]:
    """One traceparent of each trace, at most ``MAX_TRACES``, to be sent along."""
    return [_text(found) for found in _distinct(traceparents)]


def start(
    name: str,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    of: Iterable[str | None] = (),
    **attributes: AttributeValue,
) -> Span:
    """Begin a span; the caller ends it.

    Args:
        of: traceparents of what the work is for. One trace: the span is part of it. Several: it
            begins a trace that is linked to each of them. None: it is part of the context.
    """
    traces = _distinct(of)
    parent = None if not traces else context.Context()
    if len(traces) == 1:
        parent = trace.set_span_in_context(NonRecordingSpan(traces[0]), parent)
    links = [Link(found) for found in traces] if len(traces) > 1 else None
    begun = _tracer.start_span(name, parent, kind, attributes, links)
    return begun if begun.get_span_context().is_valid else _unrecorded()


@contextmanager
def span(
    name: str,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    of: Iterable[str | None] = (),
    **attributes: AttributeValue,
) -> Iterator[Span]:
    """The work inside is this span, and its log lines carry the trace; arguments as ``start``'s."""
    with trace.use_span(start(name, kind=kind, of=of, **attributes), end_on_exit=True) as begun:
        yield begun


def text(of: Span) -> str:
    """A span's traceparent."""
    return _text(of.get_span_context())


def _text(found: SpanContext) -> str:
    if not found.is_valid:
        return ""
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"


def _distinct(traceparents: Iterable[str | None]) -> list[SpanContext]:
    """One context of each trace."""
    traces: dict[int, SpanContext] = {}
    for traceparent in dict.fromkeys(traceparents):
        if len(traces) == MAX_TRACES:
            break
        found = parse(traceparent)
        if found is not None:
            traces.setdefault(found.trace_id, found)
    return list(traces.values())


def _unrecorded() -> Span:
    """The beginning of a trace where nothing records it: still its id is passed on."""
    return NonRecordingSpan(
        SpanContext(
            trace_id=random.getrandbits(128) or 1,
            span_id=random.getrandbits(64) or 1,
            is_remote=False,
            trace_flags=TraceFlags(TraceFlags.SAMPLED),
        )
    )

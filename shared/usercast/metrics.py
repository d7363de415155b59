"""Metrics: what each process tells Prometheus, and how it is asked.

A web process answers ``/metrics`` to who shows ``METRICS_TOKEN``; any other has a port of its own,
``METRICS_PORT``, which is for the private network only. Without these settings nothing is told.
Where a process has several workers, ``PROMETHEUS_MULTIPROC_DIR`` names an empty directory they
share, and any of them answers for all.

A metric stands beside what it counts (``outbox.metrics``, ``usercast_client.metrics``); here is
what is the same for all.
"""

import hmac
import os
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import structlog
from celery.signals import task_postrun, task_prerun
from django.conf import settings
from django.db import close_old_connections, connection
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from environs import validate
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Histogram,
    Metric,
    generate_latest,
    start_http_server,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from usercast import heartbeat
from usercast.contract import CONTRACT_VERSION
from usercast.env import Environment
from usercast.errors import ConfigurationError, reason
from usercast.process import process_name

log = structlog.get_logger(__name__)

#: Of lags, in seconds: from what nobody notices to what somebody has to be told of.
LAG_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)

Samples = Iterator[tuple[tuple[str, ...], float]]


def metrics_settings(env: Environment) -> dict[str, Any]:
    """The settings ``METRICS_TOKEN``, ``METRICS_PORT`` and ``METRICS_ADDRESS`` (all interfaces)."""
    return {
        "METRICS_TOKEN": env.str("METRICS_TOKEN", None),
        "METRICS_PORT": env.int("METRICS_PORT", None, validate=validate.Range(1, 65535)),
        "METRICS_ADDRESS": env.str("METRICS_ADDRESS", "0.0.0.0"),  # noqa: S104 - as containers need
    }


class Gauges(Collector):
    """Gauges whose values are asked for when Prometheus asks: what tables or queues hold.

    A source that fails (its database is away) is left out, and the others are told.
    """

    def __init__(self, source: Callable[[], Iterable[Metric]]) -> None:
        self._source = source

    def collect(self) -> Iterator[Metric]:
        close_old_connections()
        try:
            yield from list(self._source())
        except Exception as error:  # noqa: BLE001 - a scrape tells what it can
            log.warning("metrics_missing", reason=reason(error))
        finally:
            # Asked in a thread of its own, whose connection nobody else would close.
            connection.close()

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not ask the database."""
        return ()


def gauge(name: str, about: str, labels: Iterable[str], samples: Samples) -> GaugeMetricFamily:
    """One gauge of a ``Gauges`` source."""
    family = GaugeMetricFamily(name, about, labels=list(labels))
    for values, sample in samples:
        family.add_metric(list(values), sample)
    return family


_sources: list[Collector] = []


def tell(source: Callable[[], Iterable[Metric]]) -> None:
    """Have this process tell the gauges of a source, too."""
    _sources.append(Gauges(source))


def serve() -> None:
    """Answer Prometheus on ``METRICS_PORT``, if it is set, from a thread, as long as this lives.

    Raises:
        ConfigurationError: the port cannot be had.
    """
    if settings.METRICS_PORT is None:
        return
    try:
        start_http_server(settings.METRICS_PORT, settings.METRICS_ADDRESS, _registry())
    except OSError as error:
        raise ConfigurationError(
            f"METRICS_PORT: {settings.METRICS_PORT} of {settings.METRICS_ADDRESS}: {error.strerror}"
        ) from error


class MetricsMiddleware:
    """Answers ``/metrics`` of web processes; without the token it is as if it were not there.

    Before anything else looks at the request: Prometheus comes by plain HTTP, through the private
    network, with an address as its host.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path_info != "/metrics" or not _shows_token(request):
            return self._get_response(request)
        return HttpResponse(generate_latest(_registry()), content_type=CONTENT_TYPE_LATEST)


def _shows_token(request: HttpRequest) -> bool:
    token = settings.METRICS_TOKEN
    given = request.headers.get("Authorization", "")
    return bool(token) and hmac.compare_digest(given.encode(), f"Bearer {token}".encode())


def _registry() -> CollectorRegistry:
    """What all workers of this process have counted, and this process's gauges."""
    registry = CollectorRegistry()
    if directory := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        _forget_the_dead(Path(directory))
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    else:
        registry.register(REGISTRY)
    for source in (_THIS_PROCESS, *_sources):
        registry.register(source)
    return registry


def _forget_the_dead(directory: Path) -> None:
    """What workers hold that have ended (their open sockets) counts no more."""
    for file in directory.glob("gauge_live*_*.db"):
        pid = file.stem.rpartition("_")[2]
        if not Path("/proc", pid).exists():
            mark_process_dead(pid)  # type: ignore[no-untyped-call]


class _ThisProcess(Collector):
    def collect(self) -> Iterator[Metric]:
        about = "Which process this is, its version, and that of the contract it speaks"
        labels = {
            "process": process_name(),
            "version": version("usercast"),
            "contract": CONTRACT_VERSION,
        }
        yield gauge("usercast_process_info", about, labels, iter([(tuple(labels.values()), 1.0)]))
        if process_name() != "web":  # readyz answers for that
            ready = float(heartbeat.is_ready())
            about = "Whether the process has lately turned its loop and lacks nothing it needs"
            yield gauge("usercast_ready", about, (), iter([((), ready)]))


_THIS_PROCESS = _ThisProcess()

TASKS = Counter("usercast_tasks_total", "Celery tasks that ended", ("task", "outcome"))
TASK_SECONDS = Histogram("usercast_task_seconds", "How long Celery tasks took", ("task",))


#: By task id: when those at work began.
_began: dict[str, float] = {}


@task_prerun.connect
def _begin(task_id: str, **_signal: Any) -> None:
    _began[task_id] = time.perf_counter()


@task_postrun.connect
def _end(task_id: str, task: Any, state: str | None = None, **_signal: Any) -> None:
    # usercast_master.outbox.tasks.publish_outbox is outbox.publish_outbox.
    name = task.name.partition(".")[2].replace(".tasks.", ".")
    began = _began.pop(task_id, None)
    if began is not None:
        TASK_SECONDS.labels(name).observe(time.perf_counter() - began)
    TASKS.labels(name, "done" if state == "SUCCESS" else "failed").inc()

"""A Celery worker's and beat's heartbeat: ``install`` has their own loops beat.

A broker or a database that is away makes them unready. With the solo pool a task stops the loop, so
that pool is for tasks of seconds, such as the clock's.
"""

from typing import Any

from billiard import current_process
from celery import Celery
from celery.beat import PersistentScheduler
from celery.signals import beat_init
from celery.worker.consumer import Consumer
from kombu.utils.objects import cached_property

from usercast import heartbeat, metrics, startup
from usercast.health import OK, Dependency, ask_database
from usercast.process import process_name

_NO_BROKER = "broker unreachable"
#: So often a worker looks whether its database answers; its loop beats every second.
DATABASE_SECONDS = 5.0
BEAT_SECONDS = 1.0
#: Beat looks at its schedule at least so often, though nothing be due.
LOOK_SECONDS = 3.0


def install(app: Celery) -> None:
    """Have the workers and the beat of this application keep heartbeats."""
    app.conf.worker_consumer = "usercast.worker:BeatingConsumer"
    app.conf.beat_scheduler = "usercast.worker:BeatingScheduler"


class BeatingConsumer(Consumer):
    """A worker's main loop, which beats each second, also while it waits for the broker.

    Beat within a worker (``--beat``) is a program of its own, and the worker only as well as that.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        has_beat = kwargs["controller"].beat is not None
        heartbeat.start(process_name(), also=[_embedded_beat()] if has_beat else [])
        self._database = Dependency("database", ask_database, every_seconds=DATABASE_SECONDS)
        self._lacks: str | None = None

    def register_with_event_loop(self, hub: Any) -> None:
        """The loop, which has a connection now, runs this itself; Celery ends it with the loop."""
        super().register_with_event_loop(hub)
        self._turned()
        hub.call_repeatedly(BEAT_SECONDS, self._turned)

    def ensure_connected(self, conn: Any) -> Any:
        return super().ensure_connected(_beating(conn))

    def _turned(self) -> None:
        question = self._database.asked()
        if question.done() or self._database.is_overdue():
            answer = self._database.answer(question)
            self._lacks = None if answer == OK else answer
        heartbeat.beat(lacks=self._lacks)


class BeatingScheduler(PersistentScheduler):
    """Beat's loop, which beats at each look at the schedule, and while it waits for the broker."""

    _lacks: str | None = None

    def tick(self, *args: Any, **kwargs: Any) -> float:
        seconds: float = super().tick(*args, **kwargs)
        heartbeat.beat(lacks=self._lacks)
        return min(seconds, LOOK_SECONDS)

    def apply_async(self, *args: Any, **kwargs: Any) -> Any:
        self._lacks = _NO_BROKER
        result = super().apply_async(*args, **kwargs)
        self._lacks = None
        return result

    @cached_property
    def connection(self) -> Any:
        return _beating(self.app.connection_for_write())


@beat_init.connect
def _begin(**_signal: Any) -> None:
    if current_process().name != "MainProcess":
        heartbeat.start(_embedded_beat())
        return
    heartbeat.start(process_name())
    with startup.one_clear_line():
        metrics.serve()


def _embedded_beat() -> str:
    return f"{process_name()}-beat"


def _beating(connection: Any) -> Any:
    """The connection, with a wait for the broker that beats: it may last for hours."""
    ensure = connection.ensure_connection

    def ensure_connection(*args: Any, callback: Any = None, **options: Any) -> Any:
        def waiting() -> None:
            heartbeat.beat(lacks=_NO_BROKER)
            if callback:
                callback()

        return ensure(*args, callback=waiting, **options)

    connection.ensure_connection = ensure_connection
    return connection

"""NOTIFY and LISTEN: a wake-up from one process to another that belongs to the transaction.

PostgreSQL delivers a notification when its transaction commits, and never when it rolls back. It
keeps none for a listener that is away, so whoever listens looks at the table after each connect.
"""

import select
from collections.abc import Iterator
from typing import Any

import psycopg2
import structlog
from django.db import connections
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT, connection
from psycopg2.sql import SQL, Identifier

from usercast.errors import reason
from usercast.lifecycle import Stop

log = structlog.get_logger(__name__)

RECONNECT_SECONDS = (0.1, 0.5, 1.0, 2.0, 5.0)


def notify(channel: str, *, using: str = "default") -> None:
    """Wake the listeners of a channel when the current transaction commits."""
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, '')", [channel])


def listen(
    channel: str, *, stop: Stop, idle_seconds: float, using: str = "default"
) -> Iterator[list[str]]:
    """The payloads sent to a channel since the last turn, all that have arrived in one list.

    An empty list says to look without having been told: after every connect (what was sent while
    away is lost), after ``idle_seconds`` of silence, and at each vain attempt to connect.

    The connection is the iterator's own, made from Django's settings and reconnecting for ever; it
    must go straight to PostgreSQL, since a transaction pooler drops LISTEN. Ends when ``stop`` is
    requested.
    """
    failures = 0
    while not stop.requested:
        try:
            conn = _listener(channel, using=using)
        except psycopg2.OperationalError as error:
            log.warning("listen_failed", channel=channel, reason=reason(error))
            yield []
            stop.wait(RECONNECT_SECONDS[min(failures, len(RECONNECT_SECONDS) - 1)])
            failures += 1
            continue
        failures = 0
        try:
            yield []
            yield from _payloads(conn, stop=stop, idle_seconds=idle_seconds)
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            log.warning("listen_interrupted", channel=channel, reason=reason(error))
        finally:
            conn.close()


def connect(*, using: str = "default", **options: Any) -> connection:
    """A connection of one's own beside Django's, made from its settings; ``options`` come first.

    Raises:
        psycopg2.OperationalError: the database is away.
    """
    parameters = {**connections[using].get_connection_params(), **options}
    parameters.pop("cursor_factory", None)
    conn: connection = psycopg2.connect(**parameters)
    return conn


def _listener(channel: str, *, using: str) -> connection:
    conn = connect(using=using)
    conn.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
    with conn.cursor() as cursor:
        cursor.execute(SQL("LISTEN {}").format(Identifier(channel)))
    return conn


def _payloads(conn: connection, *, stop: Stop, idle_seconds: float) -> Iterator[list[str]]:
    while not stop.requested:
        readable, _, _ = select.select([conn.fileno(), stop.fileno()], [], [], idle_seconds)
        conn.poll()
        payloads = [notification.payload for notification in conn.notifies]
        conn.notifies.clear()
        if payloads or not readable:
            yield payloads

"""Sees the moment at which the client's database has committed a watched user's change.

A trigger says NOTIFY for users whose names begin with ``watched-``. PostgreSQL delivers that once
the commit is on disk, so nobody has to look again and again and take part in what is measured.
"""

import select
import time
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg2.extensions import connection

from bench import system
from bench.system import BenchFailed
from embedded.deployment import Deployment

PREFIX = "watched-"
_TRIGGER = f"""
CREATE FUNCTION tell_bench() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('bench', concat_ws(' ', new.username, new.first_name, new.is_active));
    RETURN NULL;
END $$;
CREATE TRIGGER tell_bench AFTER INSERT OR UPDATE ON replica_user
    FOR EACH ROW WHEN (new.username LIKE '{PREFIX}%') EXECUTE FUNCTION tell_bench();
LISTEN bench;
"""


class Watch:
    """The watched users as the client shows them."""

    def __init__(self, client: connection) -> None:
        self._client = client
        self._seen: dict[str, float] = {}
        with client.cursor() as cursor:
            cursor.execute(_TRIGGER)

    def committed(
        self, username: str, first_name: str, *, is_active: bool = True, within: float = 30
    ) -> float:
        """Wait until the user is there like that; the time at which that was committed.

        Raises:
            BenchFailed: it took longer than ``within`` seconds.
        """
        wanted = f"{username} {first_name} {'t' if is_active else 'f'}"
        deadline = time.monotonic() + within
        while wanted not in self._seen and (left := deadline - time.monotonic()) > 0:
            select.select([self._client], [], [], left)
            now = time.time()
            self._client.poll()
            self._seen |= {notification.payload: now for notification in self._client.notifies}
            self._client.notifies.clear()
        if wanted in self._seen:
            return self._seen[wanted]
        raise BenchFailed(f"{wanted!r} has not reached the client within {within:.0f} s.")


@contextmanager
def watching(deployment: Deployment) -> Iterator[Watch]:
    """A watch on the client, by a connection of its own."""
    with system.client_database(deployment) as client:
        yield Watch(client)

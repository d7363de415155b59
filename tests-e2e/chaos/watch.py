"""The watch: follows every client from outside while the run goes on.

It reads each client's feed as a browser would, always from the last cursor it has seen, and it
measures how long after a fault the clients have everything that the master had committed by then.
"""

import threading
import time
from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from queue import SimpleQueue

import psycopg2

from chaos.faults import Fault
from embedded.evidence import told_after
from usercast.invariants import Told

LOOK_SECONDS = 0.1


@dataclass
class Recovery:
    """What the clients still owe after a fault.

    Args:
        lifted_at: when the fault was lifted (monotonic seconds).
        owed: by client, the versions to be reached, by user id.
        seconds: how long it took, once nothing is owed.
    """

    fault: Fault
    lifted_at: float
    owed: dict[str, dict[str, int]]
    seconds: float | None = None
    #: By client, everybody who was owed anything at first.
    waiting: dict[str, frozenset[str]] = field(init=False)

    def __post_init__(self) -> None:
        self.waiting = {name: frozenset(owed) for name, owed in self.owed.items()}

    @property
    def users(self) -> int:
        """How many users had to wait, on the client with the most."""
        return max(len(waiting) for waiting in self.waiting.values())


class Watch(threading.Thread):
    """Looks at the clients' databases every 0.1 s.

    Args:
        master: the master's database.
        clients: the database of each client.
    """

    def __init__(self, *, master: str, clients: Mapping[str, str]) -> None:
        super().__init__(name="watch", daemon=True)
        self._master = master
        self._clients = dict(clients)
        self._connections: dict[str, psycopg2.extensions.connection] = {}
        self._open: list[Recovery] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        #: Recoveries that are complete, in the order of their ends.
        self.recovered: SimpleQueue[Recovery] = SimpleQueue()
        #: Each client's feed as it was seen.
        self.feeds: dict[str, list[Told]] = {name: [] for name in clients}

    def begin(self, fault: Fault) -> Recovery:
        """From now on, measure how long the clients take to have all that is committed now.

        Users whom an earlier fault has kept waiting count there, until all of them are through.
        """
        lifted_at = time.monotonic()
        committed = versions(self._master)
        owed = {name: behind(database, committed) for name, database in self._clients.items()}
        with self._lock:
            for name in owed:
                for earlier in self._open:
                    owed[name] = _without(owed[name], earlier.waiting[name])
            recovery = Recovery(fault, lifted_at, owed)
            self._open.append(recovery)
        return recovery

    def is_recovering(self) -> bool:
        """Whether any recovery is not complete."""
        with self._lock:
            return bool(self._open)

    def run(self) -> None:
        """Look until closed, whatever becomes of the database meanwhile."""
        while not self._over.wait(LOOK_SECONDS):
            self.look()

    def look(self) -> None:
        """Read on in the feeds, and see which recoveries are complete."""
        for name in self._clients:
            try:
                self._look_at(name)
            except (psycopg2.OperationalError, psycopg2.InterfaceError):
                # Killed, as planned; the next look connects anew.
                self._disconnect(name)
        with self._lock:
            for recovery in [one for one in self._open if not any(one.owed.values())]:
                recovery.seconds = time.monotonic() - recovery.lifted_at
                self._open.remove(recovery)
                self.recovered.put(recovery)

    def close(self) -> None:
        """Look one last time, and no more."""
        self._over.set()
        if self.is_alive():
            self.join()
            self.look()
        for name in self._clients:
            self._disconnect(name)

    def _look_at(self, name: str) -> None:
        feed = self.feeds[name]
        with self._lock:
            waiting = [one for one in self._open if one.owed[name]]
        with self._connect(name).cursor() as cursor:
            feed.extend(told_after(cursor, feed[-1].cursor if feed else 0))
            for recovery in waiting:
                recovery.owed[name] = _still_behind(cursor, recovery.owed[name])

    def _connect(self, name: str) -> psycopg2.extensions.connection:
        if name not in self._connections:
            self._connections[name] = psycopg2.connect(self._clients[name])
            self._connections[name].autocommit = True
        return self._connections[name]

    def _disconnect(self, name: str) -> None:
        connection = self._connections.pop(name, None)
        if connection is not None:
            connection.close()


def versions(master: str) -> dict[str, int]:
    """The version of each user that the master has committed so far."""
    with closing(psycopg2.connect(master)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT user_id::text, version FROM outbox_entry")
        return dict(cursor.fetchall())


def behind(client: str, wanted: Mapping[str, int]) -> dict[str, int]:
    """Those of the wanted versions that a client has not reached."""
    with closing(psycopg2.connect(client)) as connection, connection.cursor() as cursor:
        return _still_behind(cursor, wanted)


def _without(versions: Mapping[str, int], others: Collection[str]) -> dict[str, int]:
    return {user_id: version for user_id, version in versions.items() if user_id not in others}


def _still_behind(cursor: psycopg2.extensions.cursor, wanted: Mapping[str, int]) -> dict[str, int]:
    cursor.execute(
        "SELECT id::text, version FROM replica_user"
        " WHERE version IS NOT NULL AND id = ANY(%s::uuid[])"
        " UNION ALL"
        " SELECT user_id::text, version FROM replica_tombstone WHERE user_id = ANY(%s::uuid[])",
        [list(wanted)] * 2,
    )
    reached: dict[str, int] = {}
    for user_id, version in cursor.fetchall():
        reached[user_id] = max(version, reached.get(user_id, 0))
    return {
        user_id: version for user_id, version in wanted.items() if reached.get(user_id, 0) < version
    }

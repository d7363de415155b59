"""A guest: one more client of a deployment that runs already, on its servers, with its master.

Everything a guest writes is in ``<the deployment's directory>/<its name>``.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg2

from embedded.errors import BadSetting, DemoNotRunning, StackError
from embedded.leftovers import end_leftovers, locked
from embedded.ports import first_free, listens
from embedded.postgres import create_database
from embedded.private_files import read_environment, write_json
from embedded.service import MASTER, Service, kept_secrets
from embedded.stack import Stack
from usercast import topology
from usercast.errors import ConfigurationError

#: Valkey's databases; the master and its own clients have the first ones.
_REDIS_DATABASES = 16
_PORTS_TRIED = 50
#: Directories of the deployment's and databases of the server's.
_NAMES_TAKEN = {"postgres", "template0", "template1", "localstack", "logs", "lock"}


@dataclass(frozen=True)
class Host:
    """A deployment that runs, known by the files it has written.

    Args:
        clients: its own, by name.
        last_port: the highest of its services' ports.
    """

    state_dir: Path
    master: Service
    clients: tuple[str, ...]
    last_port: int

    @classmethod
    def at(cls, state_dir: Path) -> "Host":
        """The deployment of this directory.

        Raises:
            DemoNotRunning: there is none, or its master does not answer.
        """
        try:
            logins = json.loads((state_dir / "credentials.json").read_text())
            variables = read_environment(state_dir / "master.env")
        except FileNotFoundError as error:
            raise DemoNotRunning from error
        urls = {MASTER: logins["master"]["url"]} | {
            name: login["url"] for name, login in logins["clients"].items()
        }
        ports = {name: urlsplit(url).port or 80 for name, url in urls.items()}
        host = cls(
            state_dir=state_dir,
            master=Service(
                name=MASTER,
                port=ports[MASTER],
                database_url=variables["DATABASE_URL"],
                redis_url=variables["REDIS_URL"],
                aws_url=variables["AWS_ENDPOINT_URL"],
                state_dir=state_dir / MASTER,
                secrets=kept_secrets(state_dir / "secrets.json", [MASTER])[MASTER],
                master_url=urls[MASTER],
            ),
            clients=tuple(logins["clients"]),
            last_port=max(ports.values()),
        )
        if not host.is_running:
            raise DemoNotRunning
        return host

    @property
    def is_running(self) -> bool:
        """Whether its master takes requests; it is the first to go."""
        return listens(self.master.port)

    def create_database(self, name: str) -> str:
        """The URL of the database ``name`` on its server, made when there is none yet.

        Raises:
            DemoNotRunning: the server is not there.
        """
        try:
            return create_database(self.master.database_url, name)
        except psycopg2.OperationalError as error:
            raise DemoNotRunning from error


class Guest(Stack):
    """One client, with its processes, beside those of its host.

    Raises:
        BadSetting: no client may have this name, or the host has something of that name.
    """

    def __init__(self, host: Host, name: str) -> None:
        _require_name(host, name)
        super().__init__(host.state_dir / name)
        self.host = host
        self.name = name

    @property
    def master(self) -> Service:
        """The host's."""
        return self.host.master

    @cached_property
    def services(self) -> dict[str, Service]:
        """The client alone."""
        seat = self._seat()
        redis = self.host.master.redis_url.rpartition("/")[0]
        service = Service(
            name=self.name,
            port=seat["port"],
            database_url=self.host.create_database(self.name),
            redis_url=f"{redis}/{seat['redis']}",
            aws_url=self.host.master.aws_url,
            state_dir=self.state_dir,
            secrets=kept_secrets(self.state_dir / "secrets.json", [self.name])[self.name],
            master_url=self.host.master.url,
        )
        return {self.name: service}

    @property
    def service(self) -> Service:
        """The client."""
        return self.services[self.name]

    @contextmanager
    def present(self) -> Iterator[int]:
        """Be the only run of this guest until the block ends, and leave no process behind.

        Yields how many processes an earlier run had left.

        Raises:
            AlreadyRunning: another run holds it.
        """
        self.state_dir.mkdir(mode=0o700, exist_ok=True)
        with locked(self.state_dir):
            left = end_leftovers(self.state_dir)
            try:
                yield left
            finally:
                self.close()
                end_leftovers(self.state_dir)

    def migrate(self) -> None:
        """Bring its database up to date."""
        self.manage(self.name, "migrate")

    def bootstrap(self) -> None:
        """Fetch all users from the master, with the command's progress on this terminal."""
        # Its progress, not its log: that would stand between the bar's lines.
        self._commands.show(self.service, "bootstrap", LOG_LEVEL="WARNING")

    def create_operator(self) -> dict[str, Any]:
        """Create its superuser once; return the login, which ``credentials.json`` keeps."""
        path = self.state_dir / "credentials.json"
        login = (
            json.loads(path.read_text()) if path.exists() else self._create_operator(self.service)
        )
        login["url"] = self.service.url
        write_json(path, login)
        return dict(login)

    def _seat(self) -> dict[str, int]:
        """Its port and its Valkey database, those of its last run if they are still to be had."""
        path = self.state_dir / "seat.json"
        others = [
            json.loads(found.read_text())
            for found in self.host.state_dir.glob("*/seat.json")
            if found != path
        ]
        kept = json.loads(path.read_text()) if path.exists() else {}
        seat = {
            "port": self._port(kept.get("port"), {other["port"] for other in others}),
            "redis": kept.get("redis") or self._redis({other["redis"] for other in others}),
        }
        write_json(path, seat)
        return seat

    def _port(self, kept: int | None, taken: set[int]) -> int:
        first = self.host.last_port + 1
        wanted = [kept] if kept and kept >= first else []
        free = set(range(first, min(first + _PORTS_TRIED, 65536))) - taken
        return first_free([*wanted, *sorted(free)])

    def _redis(self, taken: set[int]) -> int:
        for number in range(1 + len(self.host.clients), _REDIS_DATABASES):
            if number not in taken:
                return number
        raise StackError(
            f"There is no room for another client: Valkey has {_REDIS_DATABASES} databases. "
            "`make clean` begins anew."
        )


def _require_name(host: Host, name: str) -> None:
    if not name:
        raise BadSetting("NAME is not set: make client NAME=warehouse")
    try:
        topology.require_client_name(name)
    except ConfigurationError as error:
        raise BadSetting(f"NAME: {error}.") from error
    if name in {MASTER, *host.clients}:
        raise BadSetting(f"NAME: the demo has a service {name} of its own; choose another name.")
    if name in _NAMES_TAKEN:
        raise BadSetting(f"NAME: {name} is taken by the demo's servers; choose another name.")

"""A whole system in one state directory: servers, the master, its clients, and their processes.

The demo and the end-to-end tests both stand on it. Servers come up first, then ``set_up`` makes
databases, AWS topology and operators, then the processes of the Procfiles run: one by one with
``start``, ``stop`` and ``kill``, or under the demo's process manager.
"""

import json
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from embedded.parallel import side_by_side
from embedded.ports import loopback_url
from embedded.private_files import write_json
from embedded.servers import Servers
from embedded.service import MASTER, Service, kept_secrets
from embedded.stack import Stack


class Deployment(Stack):
    """One master and its clients on servers of their own.

    Args:
        state_dir: everything it writes goes here; a second run on it finds the first one's data.
        master_port: the master's web port on the loopback interface.
        client_ports: the web port of each client, by its name.
        durable: False trades safety against a power cut for speed.
        commands: lines that replace those of the Procfiles, by the process's name.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        master_port: int,
        client_ports: Mapping[str, int],
        durable: bool = True,
        commands: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(state_dir, commands=commands)
        self.servers = Servers(self.state_dir, durable=durable)
        self._ports = {MASTER: master_port, **client_ports}

    @cached_property
    def services(self) -> dict[str, Service]:
        """The master first, then the clients; the servers must be up."""
        names = list(self._ports)
        kept = kept_secrets(self.state_dir / "secrets.json", names)
        databases = side_by_side(
            {name: partial(self.servers.create_database, name) for name in names}
        )
        services = {}
        for number, name in enumerate(names):
            directory = self.state_dir / name
            directory.mkdir(exist_ok=True)
            services[name] = Service(
                name=name,
                port=self._ports[name],
                database_url=databases[name],
                redis_url=f"{self.servers.valkey.url}/{number}",
                aws_url=self.servers.localstack.url,
                state_dir=directory,
                secrets=kept[name],
                master_url=loopback_url(self._ports[MASTER]),
            )
        return services

    @property
    def master(self) -> Service:
        """The service that owns the users."""
        return self.services[MASTER]

    # Set-up

    def set_up(self) -> None:
        """Do all the steps, one after the other: the processes can be started after it."""
        self.servers.start()
        self.migrate()
        self.deploy_and_create_operators()

    def migrate(self) -> None:
        """Bring the databases of all services up to date, side by side."""
        self._for_each(self.services, lambda service: self.manage(service.name, "migrate"))
        for name in self.services:
            self.write_environment(name)

    def deploy_and_create_operators(self) -> None:
        """Both at once: deploying is mostly waiting."""
        side_by_side(
            {"topology": self.deploy_topology, "operators": self.create_operators},
            on_error=self._commands.abort,
        )

    def deploy_topology(self) -> None:
        """Create the topic, then register every client: its queues in LocalStack, its token.

        The master's database must be up to date.
        """
        self.manage(MASTER, "deploy_topic")
        self._for_each(self.clients, lambda service: self.register(service.name))

    def create_operators(self) -> None:
        """Create each service's superuser once, and write all logins to ``credentials.json``."""
        path = self.state_dir / "credentials.json"
        # They are in the databases of this very state directory since an earlier start.
        known = json.loads(path.read_text()) if path.exists() else {"clients": {}}
        kept = {MASTER: known.get(MASTER), **known["clients"]}
        missing = {name: s for name, s in self.services.items() if not kept.get(name)}
        logins = {**kept, **self._for_each(missing, self._create_operator)}
        found = {name: {**logins[name], "url": s.url} for name, s in self.services.items()}
        for login in found.values():
            # An earlier start's; whether they still can sign in, ``create_members`` finds out.
            login.pop("member", None)
        write_json(path, {"master": found.pop(MASTER), "clients": found})

    def create_members(self) -> None:
        """Let a replicated user of each client sign in there, and add them to ``credentials.json``.

        The clients' pollers must be running. Who could at an earlier start still can.

        Raises:
            CommandFailed: a client has no active user; nothing was added.
        """
        members = self._for_each(self.clients, lambda service: self.create_member(service.name))
        path = self.state_dir / "credentials.json"
        credentials = json.loads(path.read_text())
        for name, login in members.items():
            credentials["clients"][name]["member"] = login
        write_json(path, credentials)

    def republish(self) -> None:
        """Mark every user as not yet delivered, so that all travel to the clients again."""
        self.manage(MASTER, "outbox", "republish", "--all")

    def seed(self) -> int:
        """Give a master without users its first ones; return how many were created."""
        return int(self._commands.python(self.master, "-m", "embedded.seed").splitlines()[-1])

    def _for_each(
        self, services: Mapping[str, Service], do: Callable[[Service], Any]
    ) -> dict[str, Any]:
        calls = {name: partial(do, service) for name, service in services.items()}
        return side_by_side(calls, on_error=self._commands.abort)

    def close(self) -> None:
        """Stop every process, then the servers, for good."""
        super().close()
        self.servers.stop()

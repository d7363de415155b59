"""A whole system in one state directory: servers, the master, its clients, and their processes.

The demo and the end-to-end tests both stand on it. Servers come up first, then ``set_up`` makes
databases, AWS topology and operators, then the processes of the Procfile run: one by one with
``start``, ``stop`` and ``kill``, or under the demo's process manager.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from honcho.environ import parse_procfile

from embedded.commands import Commands
from embedded.parallel import side_by_side
from embedded.private_files import write_environment, write_json
from embedded.process import Process
from embedded.servers import REPOSITORY, Servers
from embedded.service import MASTER, Service, kept_secrets

PROCFILE = REPOSITORY / "compose" / "Procfile"


@dataclass(frozen=True)
class ProcessSpec:
    """How one process of a service is run.

    Args:
        command: a line for ``/bin/sh``.
    """

    name: str
    command: str
    cwd: Path
    env: dict[str, str]


class Deployment:
    """One master and its clients on servers of their own.

    Args:
        state_dir: everything it writes goes here; a second run on it finds the first one's data.
        master_port: the master's web port on the loopback interface.
        client_ports: the web port of each client, by its name. Every name needs its processes in
            the Procfile.
        durable: False trades safety against a power cut for speed.
        commands: lines that replace those of the Procfile, by the process's name.
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
        self.state_dir = state_dir.resolve()
        self.servers = Servers(self.state_dir, durable=durable)
        self._ports = {MASTER: master_port, **client_ports}
        self._commands = Commands(self.state_dir)
        self._replaced_commands = dict(commands or {})
        self._processes: dict[str, Process] = {}

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
            )
        return services

    @property
    def master(self) -> Service:
        """The service that owns the users."""
        return self.services[MASTER]

    @property
    def clients(self) -> dict[str, Service]:
        """The clients by name."""
        return {name: service for name, service in self.services.items() if not service.is_master}

    def environment(self, name: str) -> dict[str, str]:
        """The whole environment of a service's processes and commands."""
        return self.services[name].environment(self.state_dir)

    def manage(self, name: str, *arguments: str, **variables: str) -> str:
        """Run a service's ``manage.py``; return what it printed.

        Raises:
            CommandFailed: it ended with an error.
        """
        return self._commands.manage(self.services[name], *arguments, **variables)

    # Set-up

    def set_up(self) -> None:
        """Do all the steps, one after the other: the processes can be started after it."""
        self.servers.start()
        self.migrate()
        self.deploy_and_create_operators()

    def migrate(self) -> None:
        """Bring the databases of all services up to date, side by side."""
        self._for_each(self.services, lambda service: self.manage(service.name, "migrate"))
        for name, service in self.services.items():
            write_environment(self.state_dir / f"{name}.env", service.variables)

    def deploy_and_create_operators(self) -> None:
        """Both at once: deploying is mostly waiting."""
        side_by_side(
            {"topology": self.deploy_topology, "operators": self.create_operators},
            on_error=self._commands.abort,
        )

    def deploy_topology(self) -> None:
        """Create the topic, then every client's queues, in LocalStack."""
        self.manage(MASTER, "deploy_topic")
        self._for_each(
            self.clients, lambda service: self.manage(service.name, "deploy_client", service.name)
        )

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

    def create_member(self, name: str, username: str | None = None) -> dict[str, str]:
        """Give a replicated user of one client a password; return ``username`` and ``password``.

        Args:
            username: None for whoever has this client's already, or the first user without any.

        Raises:
            CommandFailed: there was no such active user within 30 s.
        """
        service = self.services[name]
        password = service.secrets.member_password
        chosen = () if username is None else (username,)
        output = self._commands.python(
            service, "-m", "embedded.member", *chosen, MEMBER_PASSWORD=password
        )
        return {**json.loads(output.splitlines()[-1]), "password": password}

    def republish(self) -> None:
        """Mark every user as not yet delivered, so that all travel to the clients again."""
        self.manage(MASTER, "outbox", "republish", "--all")

    def seed(self) -> int:
        """Give a master without users its first ones; return how many were created."""
        return int(self._commands.python(self.master, "-m", "embedded.seed").splitlines()[-1])

    def _create_operator(self, service: Service) -> dict[str, str]:
        password = service.secrets.operator_password
        output = self.manage(service.name, "operator", service.operator, OPERATOR_PASSWORD=password)
        login = json.loads(output.splitlines()[-1])
        return {
            "url": service.url,
            "username": login["username"],
            "password": password,
            "api_token": login["api_token"],
        }

    def _for_each(
        self, services: Mapping[str, Service], do: Callable[[Service], Any]
    ) -> dict[str, Any]:
        calls = {name: partial(do, service) for name, service in services.items()}
        return side_by_side(calls, on_error=self._commands.abort)

    # Processes

    @cached_property
    def processes(self) -> dict[str, ProcessSpec]:
        """How each process of the Procfile is run, by name, for the services of this deployment."""
        lines = parse_procfile(PROCFILE.read_text()).processes | self._replaced_commands
        return {
            name: ProcessSpec(
                name, command, self.services[owner].directory, self.environment(owner)
            )
            for name, command in lines.items()
            if (owner := name.rpartition("-")[0]) in self.services
        }

    def process(self, name: str) -> Process:
        """The process ``name``; ``start``, ``stop`` and ``kill`` act on the same one."""
        if name not in self._processes:
            spec = self.processes[name]
            self._processes[name] = Process(
                spec.command, env=spec.env, cwd=spec.cwd, log=self.log(name)
            )
        return self._processes[name]

    def log(self, name: str) -> Path:
        """Where a process's output goes."""
        return self.state_dir / "logs" / f"{name}.log"

    def start(self, name: str) -> None:
        """Start one process; its output is appended to its log."""
        self.process(name).start()

    def stop(self, name: str) -> None:
        """Stop one process in good order, by force after 10 seconds."""
        self.process(name).stop()

    def kill(self, name: str) -> None:
        """End one process at once, as a crash would."""
        self.process(name).kill()

    def start_all(self) -> None:
        """Start every process."""
        for name in self.processes:
            self.start(name)

    def close(self) -> None:
        """Stop every process, then the servers, for good."""
        self._commands.abort()
        side_by_side({name: process.close for name, process in self._processes.items()})
        self.servers.stop()

"""A stack: services of one state directory, their commands and their processes.

``Deployment`` is one with servers and a master of its own, ``Guest`` one that joins it.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from honcho.environ import parse_procfile

from embedded.commands import Commands
from embedded.observing import metrics_variables
from embedded.parallel import side_by_side
from embedded.private_files import write_environment, write_private
from embedded.process import Process
from embedded.service import Service, directory_of

#: One machine has one worker of the master: beat within it is a process less.
_BEAT_WITHIN = ' --beat --schedule "$STATE_DIR/beat"'
_TOKEN = "USERCAST_MASTER_TOKEN="


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


class Stack(ABC):
    """Some services on servers that run, whoever has started those.

    Args:
        state_dir: everything it writes goes here; a second run on it finds the first one's data.
        commands: lines that replace those of the Procfiles, by the process's name.
    """

    def __init__(self, state_dir: Path, *, commands: Mapping[str, str] | None = None) -> None:
        self.state_dir = state_dir.resolve()
        self._commands = Commands(self.state_dir)
        self._replaced_commands = dict(commands or {})
        self._processes: dict[str, Process] = {}

    @property
    @abstractmethod
    def services(self) -> dict[str, Service]:
        """Whose processes these are, by name; the servers must be up."""

    @property
    @abstractmethod
    def master(self) -> Service:
        """The service that owns the users."""

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

    def write_environment(self, name: str) -> None:
        """Write ``<name>.env``, which a shell sources to run the service's commands."""
        write_environment(self.state_dir / f"{name}.env", self.services[name].variables)

    def register(self, name: str) -> None:
        """Register a client with the master: its queues are made, and its token is kept.

        Safe to repeat; a token that was lost is replaced.

        Raises:
            CommandFailed: the master refused.
        """
        client = self.services[name]
        said = self._commands.manage(self.master, "clients", "add", name).splitlines()
        tokens = [line.removeprefix(_TOKEN) for line in said if line.startswith(_TOKEN)]
        if not tokens and not client.token_file.exists():
            tokens = self._commands.manage(self.master, "clients", "token", name).split()
        if tokens:
            write_private(client.token_file, tokens[-1])
        self.write_environment(name)

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

    # Processes

    @cached_property
    def processes(self) -> dict[str, ProcessSpec]:
        """How each process of these services is run, by its name; the clients have their tokens."""
        return {
            f"{owner}-{kind}": ProcessSpec(
                f"{owner}-{kind}",
                self._replaced_commands.get(f"{owner}-{kind}", command),
                service.directory,
                {
                    **self.environment(owner),
                    "USERCAST_PROCESS": kind,
                    **metrics_variables(kind, self.state_dir),
                },
            )
            for owner, service in self.services.items()
            for kind, command in commands_of(owner).items()
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
        """Stop every process, for good."""
        self._commands.abort()
        side_by_side({name: process.close for name, process in self._processes.items()})


def commands_of(name: str) -> dict[str, str]:
    """How each kind of process of a service is run, by its Procfile: lines for ``/bin/sh``."""
    lines = parse_procfile((directory_of(name) / "Procfile").read_text()).processes
    commands = {kind: f"exec {line}" for kind, line in lines.items()}
    if commands.pop("beat", None):
        commands["worker"] += _BEAT_WITHIN
    return commands

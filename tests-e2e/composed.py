"""The system as compose.yaml runs it, for the tests: its processes are containers.

It offers what ``Deployment`` offers them. Its project is its own, so a development system that runs
on this machine is left alone, and nothing of an earlier run is found.
"""

import inspect
import json
import os
import subprocess
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import psutil
import pytest

from embedded import member
from embedded.errors import CommandFailed
from embedded.ports import free_port, loopback_url
from embedded.private_files import write_json, write_private
from embedded.servers import REPOSITORY
from embedded.service import MASTER, Secrets, Service
from embedded.stack import Stack
from usercast.testing import eventually

PROJECT = "usercast-e2e"
SERVERS = ("postgres", "valkey", "localstack")
MASTER_PROCESSES = ("web", "relay", "worker", "beat")
CLIENT_PROCESSES = ("web", "poller", "worker", "clock")
#: More than the tests ask in a minute; they do it all with one token.
UNLIMITED = "1000000/min"
#: The first start, with migrations, on a busy machine.
UP_SECONDS = 300
HERE = Path(__file__).parent
FILES = (REPOSITORY / "compose" / "compose.yaml", HERE / "compose.override.yaml")
_READ_SECRETS = """
import json, pathlib
files = pathlib.Path("/run/secrets/usercast").iterdir()
print(json.dumps({file.name: file.read_text() for file in files}))
"""


class Container:
    """One process of the system, by the name of its service; the container outlives a stop."""

    def __init__(self, name: str) -> None:
        self.name = f"{PROJECT}-{name}-1"

    @property
    def running(self) -> bool:
        return self._state("{{.State.Running}}") == "true"

    @property
    def pid(self) -> int:
        """Of the container's first process, as this machine counts; only root may signal it."""
        pid = int(self._state("{{.State.Pid}}"))
        if os.geteuid() != 0 or not psutil.pid_exists(pid):
            pytest.skip("needs root on the machine that the containers run on")
        return pid

    @property
    def returncode(self) -> int:
        """How the latest start ended; more than 128 for a signal."""
        return int(self._state("{{.State.ExitCode}}"))

    @property
    def address(self) -> str:
        """In its network, where this machine reaches it if the containers run on it."""
        found = self._state("{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}")
        return found.split()[0]

    def start(self) -> None:
        docker("start", self.name)

    def stop(self) -> None:
        """In good order, by force after 10 seconds."""
        docker("stop", "-t", "10", self.name)

    def kill(self) -> None:
        """At once, as a crash would; Docker does not start it again by itself then."""
        if self.running:
            docker("kill", self.name)

    def ports_spoken_to(self) -> set[int]:
        """At which it has connections open; in its own network there are no other's."""
        lines = self.execute("cat", "/proc/net/tcp").splitlines()[1:]
        return {int(line.split()[2].rpartition(":")[2], 16) for line in lines}

    def execute(self, *command: str) -> str:
        return docker("exec", self.name, *command)

    def log(self) -> str:
        """All that it has written, over every start."""
        return docker("logs", self.name, with_errors=True)

    @property
    def is_healthy(self) -> bool:
        return self._state("{{.State.Health.Status}}") == "healthy"

    def _state(self, template: str) -> str:
        return docker("inspect", "--format", template, self.name).strip()


class Server:
    """PostgreSQL, Valkey or LocalStack.

    Args:
        port: its own, in its container.
        url: where this machine reaches it.
    """

    def __init__(self, name: str, *, port: int, url: str) -> None:
        self.process = Container(name)
        self.port = port
        self.url = url

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.process.start()
        eventually(lambda: self.process.is_healthy, within=60, what=f"{self.process.name} healthy")

    def stop(self) -> None:
        self.process.stop()


class Servers:
    """What the system stands on, by the ports that it is published at."""

    def __init__(self, ports: dict[str, int]) -> None:
        self.postgres = Server("postgres", port=5432, url=f"127.0.0.1:{ports['postgres']}")
        self.valkey = Server("valkey", port=6379, url=f"redis://127.0.0.1:{ports['valkey']}")
        self.localstack = Server("localstack", port=4566, url=loopback_url(ports["localstack"]))


class Composed(Stack):
    """The containers of compose.yaml; ``set_up`` starts them, ``close`` removes them.

    ``environment`` is for a program of this machine that takes a client's part: a container has its
    own.

    Args:
        state_dir: for logins and logs, where a guest looks for its host too.
    """

    def __init__(self, state_dir: Path, *, clients: Sequence[str]) -> None:
        super().__init__(state_dir)
        self._names = (MASTER, *clients)
        self._ports = {name: free_port() for name in (*self._names, *SERVERS)}
        self.servers = Servers(self._ports)

    @cached_property
    def processes(self) -> dict[str, Container]:  # type: ignore[override]
        kinds = dict.fromkeys(self._names, CLIENT_PROCESSES) | {MASTER: MASTER_PROCESSES}
        names = [f"{owner}-{kind}" for owner in self._names for kind in kinds[owner]]
        return {name: Container(name) for name in names}

    def process(self, name: str) -> Container:  # type: ignore[override]
        return self.processes[name]

    @property
    def master(self) -> Service:
        return self.services[MASTER]

    @cached_property
    def services(self) -> dict[str, Service]:
        """As this machine reaches them: pages through nginx, databases as PostgreSQL's operator."""
        operator = f"postgres:{self._secrets['postgres.password']}"
        services = {}
        for number, name in enumerate(self._names):
            directory = self.state_dir / name
            directory.mkdir(exist_ok=True)
            services[name] = Service(
                name=name,
                port=self._ports[name],
                database_url=f"postgres://{operator}@{self.servers.postgres.url}/{name}",
                redis_url=f"{self.servers.valkey.url}/{number}",
                aws_url=self.servers.localstack.url,
                state_dir=directory,
                secrets=Secrets(
                    secret_key=self._secrets[f"{name}.key"],
                    operator_password=self._secrets[f"{name}.operator"],
                    member_password=Secrets.new().member_password,
                ),
                master_url=loopback_url(self._ports[MASTER]),
            )
        return services

    @cached_property
    def _secrets(self) -> dict[str, str]:
        """The files of the volume ``secrets``, by name."""
        found = self.process("master-worker").execute("python", "-c", _READ_SECRETS)
        return dict(json.loads(found))

    def start_all(self) -> None:
        """Nothing: ``set_up`` has."""

    def set_up(self) -> None:
        """Start everything anew, and write down the logins; what an earlier run left is removed."""
        self._remove()
        self._compose("up", "--detach", "--wait", "--wait-timeout", str(UP_SECONDS))
        logins = {
            name: {**json.loads(self._secrets[f"{name}.login"]), "url": service.url}
            for name, service in self.services.items()
        }
        write_json(
            self.state_dir / "credentials.json", {"master": logins.pop(MASTER), "clients": logins}
        )
        write_json(
            self.state_dir / "secrets.json", {n: vars(s.secrets) for n, s in self.services.items()}
        )
        write_private(self.state_dir / "metrics.token", self._secrets["metrics.token"])
        self.write_environment(MASTER)

    def deploy_topology(self) -> None:
        """The topic, and the queues of every client, as at each start."""
        self._compose("run", "--rm", "--no-deps", "-T", "set-up")

    def republish(self) -> None:
        """Mark every user as not yet delivered, so that all travel to the clients again."""
        self.manage(MASTER, "outbox", "republish", "--all")

    def manage(self, name: str, *arguments: str, **variables: str) -> str:
        """Run a service's ``manage.py`` in a container of its own, as an operator would.

        Only the health of a process is asked for where that runs.

        Raises:
            CommandFailed: it ended with an error.
        """
        if arguments[0] == "healthy":
            process = self.process(f"{name}-{arguments[1]}")
            return process.execute("python", "manage.py", *arguments)
        return self._python(name, "manage.py", *arguments, **variables)

    def create_member(self, name: str, username: str | None = None) -> dict[str, str]:
        password = self.services[name].secrets.member_password
        chosen = () if username is None else (username,)
        settings = {"DJANGO_SETTINGS_MODULE": "usercast_client.settings"}
        output = self._python(
            name, "-c", inspect.getsource(member), *chosen, MEMBER_PASSWORD=password, **settings
        )
        return {**json.loads(output.splitlines()[-1]), "password": password}

    def log(self, name: str) -> Path:
        """A file with what the process has written until now."""
        path = self.state_dir / "logs" / f"{name}.log"
        path.parent.mkdir(exist_ok=True)
        path.write_text(self.process(name).log())
        return path

    def address(self, name: str) -> str:
        """Where a process itself answers, past nginx."""
        return f"http://{self.process(name).address}:{8000 if name.endswith('-web') else 9464}"

    def close(self) -> None:
        try:
            if "KEEP_LOGS" in os.environ:
                for name in self.processes:
                    self.log(name)
        finally:
            self._remove()

    def _remove(self) -> None:
        self._compose("down", "--volumes", "--remove-orphans", "--timeout", "2")

    def _python(self, name: str, *arguments: str, **variables: str) -> str:
        """Run Python in a container like those of a service, where the tests' files are too."""
        given = [part for item in variables.items() for part in ("--env", "=".join(item))]
        files = ("--volume", f"{HERE}:{HERE}:ro")
        once = ("run", "--rm", "--no-deps", "-T", "--entrypoint", "python")
        return self._compose(*once, *files, *given, f"{name}-worker", *arguments)

    def _compose(self, *arguments: str) -> str:
        files = [part for path in FILES for part in ("--file", str(path))]
        ports = {f"{name.upper()}_PORT": str(port) for name, port in self._ports.items()}
        rates = {"API_READ_RATE": UNLIMITED, "API_WRITE_RATE": UNLIMITED}
        return docker("compose", "-p", PROJECT, *files, *arguments, **ports, **rates)


def docker(*arguments: str, with_errors: bool = False, **variables: str) -> str:
    """Run a command of Docker's; return what it printed.

    Raises:
        CommandFailed: it ended with an error; the message holds the end of its output.
    """
    ended = subprocess.run(
        ["docker", *arguments],
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if with_errors else subprocess.PIPE,
        text=True,
        check=False,
    )
    if ended.returncode:
        output = (ended.stdout + (ended.stderr or "")).splitlines()[-20:]
        tail = "\n".join(f"    {line}" for line in output)
        said = " ".join(arguments)[:300]
        raise CommandFailed(f"`docker {said}` failed (exit status {ended.returncode}):\n{tail}")
    return ended.stdout

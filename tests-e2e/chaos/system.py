"""The system under chaos: everything as deployed, each server behind a fault proxy, and the faults.

The harness speaks to the servers directly, so that it can look whatever is cut off.
"""

import dataclasses
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

import psutil

from chaos.faults import Action, Fault
from chaos.proxy import FaultProxy, Mode
from embedded.deployment import Deployment
from embedded.errors import StackError
from embedded.ports import LOOPBACK, free_port
from embedded.postgres import SOCKET_NAME
from embedded.process import Process
from embedded.servers import Server
from embedded.service import Service

CLIENTS = ("billing", "support")
#: Where the package ``chaos`` is.
HERE = Path(__file__).resolve().parents[1]
_MODES = {Action.DELAY: Mode.DELAY, Action.RESET: Mode.RESET, Action.BLACKHOLE: Mode.BLACKHOLE}


def python(module: str, *arguments: str) -> str:
    """The line for ``/bin/sh`` that runs a module of this package within a service."""
    line = shlex.join([sys.executable, "-m", module, *arguments])
    return f'PYTHONPATH={shlex.quote(str(HERE))}:"$PYTHONPATH" exec {line}'


class System(Deployment):
    """Master, billing and support, their pollers shaken, behind proxies that can fail.

    PostgreSQL commits to disk, since it is killed.

    Args:
        seed: what the shaking of messages follows.
    """

    def __init__(self, state_dir: Path, *, seed: int) -> None:
        super().__init__(
            state_dir,
            master_port=free_port(),
            client_ports={name: free_port() for name in CLIENTS},
            durable=True,
            commands={
                f"{name}-poller": python("chaos.shaken", f"{seed}/{name}", "poll")
                for name in CLIENTS
            },
        )
        servers = self.servers
        self._proxies = {
            servers.postgres.name: FaultProxy(servers.postgres.cluster.socket_dir / SOCKET_NAME),
            servers.valkey.name: FaultProxy(servers.valkey.port),
            servers.localstack.name: FaultProxy(servers.localstack.port),
        }
        self.supervisor = Supervisor(self)
        self._adopted: list[Process] = []

    @cached_property
    def services(self) -> dict[str, Service]:
        """The services, each with the proxies' addresses instead of the servers'."""
        found = {}
        for name, service in super().services.items():
            redis_database = service.redis_url.rpartition("/")[2]
            found[name] = dataclasses.replace(
                service,
                database_url=f"postgres://postgres@{self._through('PostgreSQL')}/{name}",
                redis_url=f"redis://{self._through('Valkey')}/{redis_database}",
                aws_url=f"http://{self._through('LocalStack')}",
            )
        return found

    def database(self, name: str) -> str:
        """A service's database, past the proxy."""
        return self.servers.postgres.cluster.url(name)

    @contextmanager
    def struck(self, fault: Fault) -> Iterator[None]:
        """Do to the target what the fault says, and undo it at the end of the block."""
        if fault.kind.action in _MODES:
            yield from self._cut(fault)
        elif fault.kind.action is Action.STOP:
            yield from self._frozen(fault)
        else:
            yield from self._killed(fault)

    def adopt(self, process: Process) -> None:
        """Have ``close`` stop a process that is not the Procfile's, too."""
        self._adopted.append(process)

    def close(self) -> None:
        """Stop everything, whatever state it is in."""
        self.supervisor.close()
        for process in self._adopted:
            process.close()
        for proxy in self._proxies.values():
            proxy.set(Mode.PASS)
        super().close()
        for proxy in self._proxies.values():
            proxy.close()

    def _through(self, server: str) -> str:
        return f"{LOOPBACK}:{self._proxies[server].port}"

    def _cut(self, fault: Fault) -> Iterator[None]:
        proxy = self._proxies[fault.target]
        proxy.set(_MODES[fault.kind.action], delay_seconds=fault.delay_seconds)
        try:
            yield
        finally:
            proxy.set(Mode.PASS)

    def _frozen(self, fault: Fault) -> Iterator[None]:
        tree = _tree(self._program(fault.target))
        _signal(tree, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(tree, signal.SIGCONT)

    def _killed(self, fault: Fault) -> Iterator[None]:
        program = self._program(fault.target)
        with self.supervisor.holding(fault.target):
            # All of it at once: PostgreSQL's processes are sessions of their own, and one that
            # outlives the others would tidy up. What stands still bears no further ones.
            _signal(_tree(program), signal.SIGSTOP)
            _signal(_tree(program), signal.SIGKILL)
            program.kill()
            yield
            if server := self._server(fault.target):
                server.start()
            else:
                self.start(fault.target)

    def _program(self, target: str) -> Process:
        server = self._server(target)
        return server.process if server else self.process(target)

    def _server(self, target: str) -> Server | None:
        return next((server for server in self.servers.all if server.name == target), None)


@dataclasses.dataclass(frozen=True)
class Ending:
    """A process that ended by itself: how, and what it had logged last."""

    name: str
    status: int | None
    last_words: str

    @property
    def is_expected(self) -> bool:
        """Whether it found a dependency cut off when it started."""
        return self.status == os.EX_CONFIG


class Supervisor(threading.Thread):
    """Starts a process again that has ended by itself, as any process manager would.

    One that finds a dependency cut off while it starts ends with status 78 and is to be tried
    again; any other end is worth a look.
    """

    def __init__(self, system: System) -> None:
        super().__init__(name="supervisor", daemon=True)
        self._system = system
        self._held: set[str] = set()
        self._lock = threading.Lock()
        self._over = threading.Event()
        #: Every end that nobody wanted.
        self.ended: list[Ending] = []

    def run(self) -> None:
        """Look every 0.5 s, until closed."""
        while not self._over.wait(0.5):
            for name in self._system.processes:
                self._look_at(name)

    @contextmanager
    def holding(self, name: str) -> Iterator[None]:
        """Leave one process alone: its end is wanted."""
        with self._lock:
            self._held.add(name)
        try:
            yield
        finally:
            with self._lock:
                self._held.discard(name)

    def close(self) -> None:
        """Look no more; returns when it does not."""
        self._over.set()
        if self.is_alive():
            self.join()

    def _look_at(self, name: str) -> None:
        with self._lock, suppress(StackError):
            process = self._system.process(name)
            if name not in self._held and not process.running:
                self.ended.append(Ending(name, process.returncode, process.tail()))
                process.start()


def _tree(program: Process) -> list[psutil.Process]:
    """The program and all its descendants; empty when it has ended."""
    if not program.running:
        return []
    try:
        root = psutil.Process(program.pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _signal(tree: list[psutil.Process], number: signal.Signals) -> None:
    for process in tree:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)

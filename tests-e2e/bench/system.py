"""The system under measurement: real servers and processes, fresh for each part, gone after it."""

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager

import psycopg2
from psycopg2.extensions import connection

from bench.session import Session
from embedded.deployment import Deployment
from embedded.leftovers import end_leftovers, locked
from embedded.ports import free_port
from embedded.process import Process
from embedded.servers import REPOSITORY
from embedded.stack import commands_of
from usercast.errors import UsercastError

CLIENT = "billing"
#: What a change passes through on its way to a client's tables.
PIPELINE = ("master-relay", "master-worker", "billing-poller")
#: All parts use one directory in turn, so that Django, configured once, finds each new database.
BENCH_DIR = REPOSITORY / ".bench"
STATE_DIR = BENCH_DIR / "state"
PROBES = STATE_DIR / "probes"
#: Where the logs are after a part has failed.
KEPT_LOGS = BENCH_DIR / "logs"


class BenchFailed(UsercastError):
    """A part could not be measured to its end."""


@contextmanager
def alone() -> Iterator[None]:
    """Let no other benchmark of this checkout run, and end what a killed one left behind.

    Raises:
        AlreadyRunning: another one runs.
    """
    BENCH_DIR.mkdir(exist_ok=True)
    with locked(BENCH_DIR):
        end_leftovers(STATE_DIR)
        shutil.rmtree(STATE_DIR, ignore_errors=True)
        yield


@contextmanager
def running(
    session: Session, processes: Sequence[str], *, sampled: bool = False
) -> Iterator[Deployment]:
    """A system set up anew, with these processes running; those of the pipeline under the probe."""
    with _deployment({name: _probed(name, sampled=sampled) for name in PIPELINE}) as deployment:
        with session.step("a fresh system"):
            deployment.set_up()
            _use_django_of(deployment)
            PROBES.mkdir()
            for name in processes:
                deployment.start(name)
        yield deployment


@contextmanager
def master_database(session: Session) -> Iterator[Deployment]:
    """PostgreSQL with the master's tables alone, for what needs no more."""
    with _deployment({}) as deployment:
        with session.step("a fresh database"):
            deployment.servers.postgres.start()
            deployment.manage("master", "migrate")
            _use_django_of(deployment)
        yield deployment


@contextmanager
def _deployment(commands: dict[str, str]) -> Iterator[Deployment]:
    STATE_DIR.mkdir(mode=0o700)
    deployment = Deployment(
        STATE_DIR, master_port=free_port(), client_ports={CLIENT: free_port()}, commands=commands
    )
    try:
        yield deployment
    except Exception:
        _keep_logs()
        raise
    finally:
        _tear_down(deployment)


def _tear_down(deployment: Deployment) -> None:
    # An impatient second ctrl-C must not leave anything running.
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in _ENDING}
    try:
        _close_connections()
        deployment.close()
        end_leftovers(STATE_DIR)
        shutil.rmtree(STATE_DIR, ignore_errors=True)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


_ENDING = (signal.SIGINT, signal.SIGTERM)


def _keep_logs() -> None:
    shutil.rmtree(KEPT_LOGS, ignore_errors=True)
    if (STATE_DIR / "logs").exists():
        shutil.copytree(STATE_DIR / "logs", KEPT_LOGS)


def _probed(name: str, *, sampled: bool) -> str:
    """The process's command, run under ``bench.probe``."""
    owner, _, kind = name.rpartition("-")
    line = commands_of(owner)[kind].removeprefix("exec ")
    option = "--sample " if sampled else ""
    return f"exec python -m bench.probe {option}{PROBES / name} {line}"


def _use_django_of(deployment: Deployment) -> None:
    """Make this process one of the master's, as ``manage.py shell`` would be."""
    import django

    os.environ.update(deployment.master.variables)
    django.setup()


def _close_connections() -> None:
    from django.conf import settings
    from django.db import connections

    if settings.configured:
        connections.close_all()


# The client's tables


@contextmanager
def client_database(deployment: Deployment) -> Iterator[connection]:
    """A connection to the client's database, in autocommit."""
    with closing(psycopg2.connect(deployment.clients[CLIENT].database_url)) as opened:
        opened.autocommit = True
        yield opened


def value(database: connection, statement: str, *parameters: object) -> int:
    """The one number that a statement returns."""
    with database.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchone()[0]


def newest_cursor(client: connection) -> int:
    """How many changes this client has ever applied: cursors grow by one, in commit order."""
    return value(client, "SELECT coalesce(max(cursor), 0) FROM live_change")


def pipeline(deployment: Deployment) -> list[Process]:
    """The processes a change passes through."""
    return [deployment.process(name) for name in PIPELINE]


def wait_until(
    condition: Callable[[], bool],
    *,
    programs: Iterable[Process],
    within: float,
    every: float = 0.01,
) -> None:
    """Return once it holds.

    Raises:
        BenchFailed: one of the programs ended meanwhile, or the time was over.
    """
    deadline = time.monotonic() + within
    while not condition():
        for program in programs:
            if not program.running:
                raise BenchFailed(f"{program.log.stem} ended meanwhile:\n{program.tail()}")
        if time.monotonic() > deadline:
            raise BenchFailed(f"Not done after {within:.0f} s; the logs are in {KEPT_LOGS}.")
        time.sleep(every)


def warm_up(deployment: Deployment, client: connection) -> None:
    """Send one user through, so that what is measured does not include the processes' start."""
    from usercast_master.accounts.models import User

    before = newest_cursor(client)
    User.objects.create(username="warm-up")
    wait_until(lambda: newest_cursor(client) > before, programs=pipeline(deployment), within=60)

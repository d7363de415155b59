"""One run: system up, load on, one fault after the other, load off, settle, judge, system down."""

import json
import signal
import time
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import Empty
from types import TracebackType
from typing import Self

import httpx
import psycopg2
from rich.console import Console
from rich.text import Text

from chaos.faults import Fault, schedule
from chaos.report import Result
from chaos.settle import Queues, judged, settled
from chaos.system import CLIENTS, System, python
from chaos.watch import Recovery, Watch, behind, versions
from embedded.console import step
from embedded.errors import ProcessDied
from embedded.evidence import install_witness
from embedded.leftovers import end_leftovers
from embedded.ports import http_answers
from embedded.process import Process
from usercast.testing import eventually

START_SECONDS = 90.0


class Run:
    """A system of its own, from start to judgement; a context that leaves nothing running.

    Args:
        kills: how many faults.
    """

    def __init__(self, state_dir: Path, console: Console, *, seed: int, kills: int) -> None:
        self._state_dir = state_dir
        self._console = console
        self._seed = seed
        self._faults = schedule(seed=seed, count=kills, clients=CLIENTS)
        self._system = System(state_dir, seed=seed)
        self._watch = Watch(
            master=self._system.database("master"),
            clients={name: self._system.database(name) for name in CLIENTS},
        )
        self._recoveries: list[Recovery] = []
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # An impatient second ctrl-C must not leave anything behind.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        self._watch.close()
        self._system.close()
        end_leftovers(self._state_dir)

    def whole(self) -> Result:
        """Do everything, and return what it has shown.

        Raises:
            StackError: the system did not come up, or the load broke.
        """
        self._start()
        versions_before = self._versions()
        load = self._start_load()
        began = time.monotonic()
        for fault in self._faults:
            self._strike(fault)
            if not load.running:
                raise ProcessDied(f"The load ended. The end of {load.log}:\n{load.tail()}")
        load.stop()
        load_seconds = time.monotonic() - began
        return self._judge(load, load_seconds=load_seconds, versions_before=versions_before)

    def _versions(self) -> int:
        return sum(versions(self._system.database("master")).values())

    def _start(self) -> None:
        system, console = self._system, self._console
        console.print(f"chaos: {len(self._faults)} faults, SEED={self._seed}", style="bold")
        with step(console, "PostgreSQL, Valkey, LocalStack"):
            system.servers.start()
        with step(console, "Databases, topic, queues, users"):
            system.migrate()
            system.deploy_and_create_operators()
            system.seed()
            self._install_witnesses()
        with step(console, "Processes, and the first users"):
            system.start_all()
            eventually(self._is_ready, within=START_SECONDS, what="the system being ready")
        system.supervisor.start()
        self._watch.start()

    def _install_witnesses(self) -> None:
        for name in CLIENTS:
            client = psycopg2.connect(self._system.database(name))
            with closing(client), client, client.cursor() as cursor:
                install_witness(cursor)

    def _is_ready(self) -> bool:
        system = self._system
        committed = versions(system.database("master"))
        return all(http_answers(service.url) for service in system.services.values()) and not any(
            behind(system.database(name), committed) for name in CLIENTS
        )

    def _start_load(self) -> Process:
        system = self._system
        load = Process(
            python("chaos.load", str(self._seed), str(system.state_dir / "credentials.json")),
            env=system.environment("master"),
            cwd=system.master.directory,
            log=system.log("load"),
        )
        system.adopt(load)
        load.start()
        eventually(lambda: _counts(load)["changed"], within=START_SECONDS, what="the load")
        return load

    def _strike(self, fault: Fault) -> None:
        with self._system.struck(fault):
            self._wait(fault.seconds)
        self._recoveries.append(self._watch.begin(fault))
        self._wait(fault.pause_seconds)

    def _wait(self, seconds: float) -> None:
        """Wait so long, and tell of each fault that the clients have recovered from."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                self._tell(self._watch.recovered.get(timeout=left))
            except Empty:
                return

    def _tell(self, recovery: Recovery) -> None:
        fault = recovery.fault
        elapsed = int(time.monotonic() - self._began)
        self._console.print(
            Text.assemble(
                (f"{elapsed // 60:2}:{elapsed % 60:02}  ", "dim"),
                f"{fault.number:3}/{len(self._faults)}  ",
                (f"{fault.kind.action:<9} ", "yellow"),
                f"{fault.target:<15} for {fault.seconds:4.2f} s, ",
                f"recovered in {recovery.seconds:5.1f} s",
                (f"  ({recovery.users} users behind)", "dim"),
            )
        )

    def _judge(self, load: Process, *, load_seconds: float, versions_before: int) -> Result:
        queues = Queues(self._system)
        ended = time.monotonic()
        left = settled(self._system, queues, wait=self._wait)
        settle_seconds = time.monotonic() - ended
        eventually(
            self._clocks_tick, within=START_SECONDS, what="the clock of every client ticking"
        )
        self._watch.close()
        self._wait(0.1)
        counts = _counts(load)
        return Result(
            seed=self._seed,
            recoveries=self._recoveries,
            load_seconds=load_seconds,
            settle_seconds=settle_seconds,
            changed=counts["changed"],
            failed=counts["failed"],
            versions=self._versions() - versions_before,
            applied={name: len(feed) for name, feed in self._watch.feeds.items()},
            dropped={name: self._logged(name, "dropped", "stale") for name in CLIENTS},
            doubles={name: self._logged(name, "shaken", "doubles") for name in CLIENTS},
            ended=self._system.supervisor.ended,
            left=left,
            violations=judged(self._system, self._watch, queues),
        )

    def _clocks_tick(self) -> bool:
        """Whether every client's pages are told the time again."""
        credentials = json.loads((self._system.state_dir / "credentials.json").read_text())
        return all(_ticks(login) for login in credentials["clients"].values())

    def _logged(self, client: str, event: str, field: str) -> int:
        """The sum of a field over all log lines of one event of a client's poller."""
        with self._system.log(f"{client}-poller").open(errors="replace") as lines:
            return _sum(lines, event, field)


def _ticks(login: dict[str, str]) -> bool:
    answer = httpx.get(
        f"{login['url']}/api/v1/live/state/",
        headers={"Authorization": f"Token {login['api_token']}"},
        trust_env=False,
    )
    clock = answer.raise_for_status().json()["clock"]
    age = datetime.now(UTC) - datetime.fromisoformat(clock["time"]) if clock else timedelta.max
    return age < timedelta(seconds=3)


def _sum(lines: Iterable[str], event: str, field: str) -> int:
    total = 0
    for line in lines:
        if f'"{event}"' in line and line.endswith("}\n"):
            told = json.loads(line)
            if told["message"] == event:
                total += int({**told.get("labels", {}), **told.get("usercast", {})}[field])
    return total


def _counts(load: Process) -> dict[str, dict[str, int]]:
    """What the load has counted so far, from the last whole line that it printed."""
    counts: dict[str, dict[str, int]] = {"changed": {}, "failed": {}}
    text = load.log.read_text() if load.log.exists() else ""
    for line in text.splitlines():
        if line.startswith('{"changed"') and line.endswith("}"):
            counts = json.loads(line)
    return counts

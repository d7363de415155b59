"""CPU seconds by process: who did the work while a block ran."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil

from embedded.deployment import Deployment

LOOK_SECONDS = 0.5
POSTGRES = "PostgreSQL"
#: All else on this machine, the benchmark itself included: how quiet it was.
OTHERS = "not the system's"


@contextmanager
def metered(deployment: Deployment) -> Iterator[Counter[str]]:
    """Fill the counter with the CPU seconds of each process and server, at the block's end.

    PostgreSQL's are told apart by database. A backend that ends is known as it was last seen, at
    most 0.5 s before; its remainder is counted in "the rest".
    """
    meter = _Meter(deployment)
    used: Counter[str] = Counter()
    try:
        yield used
    finally:
        used.update(meter.stop())


class _Meter:
    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._postmaster = psutil.Process(deployment.servers.postgres.process.pid)
        self._backends_before = self._backends()
        self._backends_latest = dict(self._backends_before)
        self._before = self._programs()
        self._busy_before = _busy()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> Counter[str]:
        self._ending.set()
        self._thread.join()
        self._backends_latest |= self._backends()
        used = self._programs()
        used.subtract(self._before)
        for backend, seconds in self._backends_latest.items():
            of_database = seconds - self._backends_before.get(backend, 0.0)
            used[f"{POSTGRES}, {backend[1]}"] += of_database
            used[POSTGRES] -= of_database
        used[f"{POSTGRES}, the rest"] = used.pop(POSTGRES)
        used[OTHERS] = _busy() - self._busy_before - used.total()
        return used

    def _look(self) -> None:
        while not self._ending.wait(LOOK_SECONDS):
            self._backends_latest |= self._backends()

    def _programs(self) -> Counter[str]:
        servers = self._deployment.servers
        named = {name: self._deployment.process(name) for name in self._deployment.processes}
        named |= {server.name: server.process for server in (servers.valkey, servers.localstack)}
        used = {name: _family(program.pid) for name, program in named.items() if program.running}
        return Counter({**used, POSTGRES: _family(self._postmaster.pid)})

    def _backends(self) -> dict[tuple[int, str], float]:
        """The seconds of each backend so far, by its pid and database."""
        found = {}
        for process in self._postmaster.children():
            with suppress(psutil.NoSuchProcess):
                words = " ".join(process.cmdline()).split()
                for name in self._deployment.services:
                    if name in words:
                        found[process.pid, name] = _seconds(process)
        return found


def _busy() -> float:
    """The seconds all cores have worked so far, for whomever."""
    times: Any = psutil.cpu_times()
    return sum(times) - times.idle - times.iowait - times.guest - times.guest_nice


def _family(pid: int | None) -> float:
    process = psutil.Process(pid)
    return sum(_seconds(member) for member in (process, *process.children(recursive=True)))


def _seconds(process: psutil.Process) -> float:
    """Of the process, and of its children that have ended."""
    with suppress(psutil.NoSuchProcess):
        times: Any = process.cpu_times()
        return times.user + times.system + times.children_user + times.children_system
    return 0.0

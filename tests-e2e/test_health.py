"""Every process tells whether it is alive, and whether it is ready, whatever is away."""

import json
import os
import signal
from collections.abc import Callable, Iterable, Iterator

import httpx
import pytest

from conftest import SOON_SECONDS, System, address
from embedded.errors import CommandFailed
from usercast.testing import eventually

#: What cannot do its work without Redis: pages, relay and poller can.
WORKERS = ("-worker", "-clock")
HUNG = "support-poller"
#: A program that has ended refuses connections; a container's address, once it has, is silent.
REDIS_AWAY = {"redis unreachable", "redis does not answer within 2 s"}

Asked = Callable[..., dict[str, str]]


@pytest.fixture
def wrong(system: System) -> Asked:
    """What `manage.py healthy` says of these processes, by name; of healthy ones nothing."""

    def ask(names: Iterable[str] = (), *, ready: bool = False) -> dict[str, str]:
        found = {}
        for name in names or system.processes:
            service, _, process = name.rpartition("-")
            try:
                system.manage(service, "healthy", process, *(["--ready"] if ready else []))
            except CommandFailed as error:
                found[name] = str(error)
        return found

    return ask


@pytest.fixture
def hung(system: System, everything_runs: None) -> Iterator[Callable[[], None]]:
    """Stop one process in the middle of what it does, until the test ends."""
    pid = system.process(HUNG).pid
    yield lambda: os.kill(pid, signal.SIGSTOP)
    os.kill(pid, signal.SIGCONT)


def test_what_is_away_makes_unready_and_what_hangs_is_dead(
    system: System, wrong: Asked, hung: Callable[[], None]
) -> None:
    eventually(lambda: not wrong(ready=True), within=SOON_SECONDS, what="every process ready")
    assert not wrong()
    hung()
    # A beat that is a process of its own knows no database, and misses its broker when it next has
    # something to send.
    others = [n for n in system.processes if n != HUNG and not n.endswith("-beat")]
    workers = [name for name in system.processes if name.endswith(WORKERS)]

    system.servers.valkey.stop()
    try:
        eventually(
            lambda: wrong(workers, ready=True).keys() == {*workers},
            within=10,
            what="workers unready without their broker",
        )
        assert not wrong(others)
        assert not wrong([name for name in others if name not in workers], ready=True)
        assert readyz(system)["checks"]["redis"] in REDIS_AWAY
    finally:
        system.servers.valkey.start()
    # Celery asks after its broker ever more seldom.
    eventually(lambda: not wrong(others, ready=True), within=SOON_SECONDS, what="ready again")

    system.servers.postgres.stop()
    try:
        eventually(
            lambda: wrong(others, ready=True).keys() == {*others},
            within=15,
            what="all unready without their database",
        )
        assert not wrong(others)
        assert readyz(system)["ready"] is False
    finally:
        system.servers.postgres.start()
    eventually(lambda: not wrong(others, ready=True), within=SOON_SECONDS, what="ready again")

    said = eventually(lambda: wrong([HUNG]), within=SOON_SECONDS, what="the hung one found")
    assert "it hangs" in said[HUNG]


def readyz(system: System) -> dict:
    """As an orchestrator asks for it: by an address, without a session."""
    url = address(system, "billing-web") + "/readyz"
    answer = httpx.get(url, headers={"Host": "10.1.2.3"}, trust_env=False)
    assert answer.status_code == (200 if answer.json()["ready"] else 503)
    return answer.json()


@pytest.mark.embedded
def test_beat_that_died_in_its_worker_is_found(
    system: System, wrong: Asked, everything_runs: None
) -> None:
    eventually(lambda: not wrong(["billing-clock"], ready=True), within=SOON_SECONDS)
    file = system.services["billing"].state_dir / "run" / "clock-beat.json"
    os.kill(json.loads(file.read_text())["pid"], signal.SIGKILL)
    said = eventually(lambda: wrong(["billing-clock"]), within=5)
    assert "clock-beat" in said["billing-clock"]
    system.stop("billing-clock")

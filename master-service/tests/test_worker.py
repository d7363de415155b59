"""A real worker with its beat, as `manage.py healthy` sees it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedded.servers import Valkey
from usercast import healthy, heartbeat, topology
from usercast.testing import eventually


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    """Not started yet."""
    server = Valkey(tmp_path)
    yield server
    server.process.close()


@pytest.fixture
def worker(
    valkey: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[subprocess.Popen]:
    """Of processes; the end-to-end tests run those of threads and the one without either."""
    monkeypatch.setenv("USERCAST_RUN_DIR", str(tmp_path / "run"))
    command = ["-m", "celery", "-A", "usercast_master", "worker", "--pool", "prefork"]
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, *command, "--concurrency", "1", "--beat", "-s", tmp_path / "beat"],
            env={
                **os.environ,
                "REDIS_URL": f"{valkey.url}/0",
                "USERCAST_TOPIC_ARN": topology.deploy_topic(),
                "USERCAST_PROCESS": "worker",
            },
            stdout=log,
            stderr=log,
        ) as process,
    ):
        yield process
        process.terminate()


def test_broker_away_makes_worker_and_beat_unready_and_a_loop_that_hangs_makes_dead(
    worker: subprocess.Popen, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker is away at their start, and again later."""

    def is_unready() -> bool:
        said = {name: healthy.problem(name, ready=True) for name in ("worker", "worker-beat")}
        return all(wrong and "broker unreachable" in wrong for wrong in said.values())

    eventually(is_unready, within=30)
    assert healthy.problem("worker", ready=False) is None
    valkey.start()
    eventually(lambda: healthy.problem("worker", ready=True) is None, within=30)
    valkey.stop()
    # Beat notices when it has something to send, every five seconds.
    eventually(is_unready, within=15)
    assert healthy.problem("worker", ready=False) is None
    valkey.start()
    eventually(lambda: healthy.problem("worker", ready=True) is None, within=30)
    monkeypatch.setattr(heartbeat, "LIVE_SECONDS", 4.0)
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        said = eventually(lambda: healthy.problem("worker", ready=False), within=15)
    finally:
        os.kill(worker.pid, signal.SIGCONT)
    assert "'main'" in said
    assert healthy.problem("worker-beat", ready=False) is None

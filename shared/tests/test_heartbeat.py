"""From a loop that turns, over its file, to what `manage.py healthy` says."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from usercast import healthy, heartbeat
from usercast.testing import eventually


@pytest.fixture(autouse=True)
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "run"
    monkeypatch.setenv("USERCAST_RUN_DIR", str(directory))
    monkeypatch.setattr(heartbeat, "_current", None)
    return directory


def told(process: str) -> dict:
    return json.loads(heartbeat.path(process).read_text())


def pass_by(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """As if all that is known were older."""
    now = heartbeat.time.monotonic
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: now() + seconds)


def test_process_that_beats_is_healthy_and_ready() -> None:
    heartbeat.start("relay")
    heartbeat.beat()
    assert healthy.problem("relay", ready=True) is None
    assert healthy.main(["relay", "--ready"]) == 0
    assert heartbeat.is_ready()


def test_starting_process_is_alive_and_not_ready() -> None:
    heartbeat.start("relay")
    assert healthy.problem("relay", ready=False) is None
    assert "starting" in (healthy.problem("relay", ready=True) or "")
    assert not heartbeat.is_ready()


def test_process_that_lacks_something_is_alive_and_says_what(
    capsys: pytest.CaptureFixture[str],
) -> None:
    heartbeat.start("relay")
    heartbeat.beat(lacks="database unreachable")
    assert healthy.main(["relay"]) == 0
    assert healthy.main(["relay", "--ready"]) == 1
    assert capsys.readouterr().out == "relay: not ready: main: database unreachable\n"
    assert not heartbeat.is_ready()
    heartbeat.beat()
    assert heartbeat.is_ready()
    assert told("relay")["ready"], "news is written at once"


def test_loop_that_hangs_is_first_unready_then_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    heartbeat.start("relay")
    heartbeat.beat()
    pass_by(monkeypatch, heartbeat.READY_SECONDS + 1)
    assert not heartbeat.is_ready()
    assert healthy.problem("relay", ready=False) is None
    assert "has not turned" in (healthy.problem("relay", ready=True) or "")
    pass_by(monkeypatch, heartbeat.LIVE_SECONDS)
    assert "it hangs" in (healthy.problem("relay", ready=False) or "")


def test_process_with_two_loops_needs_both(monkeypatch: pytest.MonkeyPatch) -> None:
    def turn(loop: str, lacks: str | None = None) -> None:
        def run() -> None:
            heartbeat.enter(loop)
            heartbeat.beat(lacks=lacks)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()

    heartbeat.start("poller", loops=["live", "bulk"])
    turn("live")
    assert not heartbeat.is_ready()
    turn("bulk", lacks="queue unreachable")
    assert healthy.problem("poller", ready=True) == "poller: not ready: bulk: queue unreachable"
    turn("bulk")
    assert heartbeat.is_ready()
    pass_by(monkeypatch, heartbeat.LIVE_SECONDS + 1)
    turn("live")
    assert "'bulk'" in (healthy.problem("poller", ready=False) or "")


def test_heartbeat_of_a_program_started_counts() -> None:
    heartbeat.start("worker", also=["worker-beat"])
    heartbeat.beat()
    assert "worker-beat.json" in (healthy.problem("worker", ready=False) or "")
    heartbeat.start("worker-beat")
    heartbeat.beat(lacks="broker unreachable")
    assert healthy.problem("worker", ready=False) is None
    assert "broker" in (healthy.problem("worker", ready=True) or "")


def test_process_that_is_gone_is_told_from_one_that_hangs() -> None:
    heartbeat.start("relay")
    heartbeat.beat()
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    heartbeat.path("relay").write_text(json.dumps({**told("relay"), "pid": ended.pid}))
    assert "is gone" in (healthy.problem("relay", ready=False) or "")


def test_process_that_ended_unnoticed_by_its_parent_is_gone() -> None:
    heartbeat.start("worker-beat")
    heartbeat.beat()
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as ended:
        assert ended.stdout is not None
        ended.stdout.read()  # until it ends
        heartbeat.path("worker-beat").write_text(
            json.dumps({**told("worker-beat"), "pid": ended.pid})
        )
        eventually(lambda: healthy.problem("worker-beat", ready=False), within=5)


def test_heartbeat_of_before_the_machine_restarted_does_not_count() -> None:
    heartbeat.start("relay")
    heartbeat.beat()
    heartbeat.path("relay").write_text(json.dumps({**told("relay"), "boot": "another"}))
    assert "is gone" in (healthy.problem("relay", ready=False) or "")


def test_no_heartbeat_says_where_one_was_looked_for(run_dir: Path) -> None:
    assert str(run_dir / "relay.json") in (healthy.problem("relay", ready=False) or "")


def test_beat_writes_at_most_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []
    monkeypatch.setattr(heartbeat, "_replace", lambda file, _told: written.append(file))
    heartbeat.start("relay")
    for _ in range(1000):
        heartbeat.beat()
    assert len(written) <= 3, "at the start, when it became ready, and one more on a slow machine"


def test_beat_outlives_a_directory_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("USERCAST_RUN_DIR", str(tmp_path / "file" / "run"))
    heartbeat.start("relay")
    heartbeat.beat()
    assert heartbeat.is_ready()
    assert "cannot read" in (healthy.problem("relay", ready=False) or "")


def test_directory_is_made_private_and_kept_from_others(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heartbeat.start("relay")
    assert run_dir.stat().st_mode & 0o777 == 0o700
    monkeypatch.delenv("USERCAST_RUN_DIR")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    (tmp_path / "usercast-4242").mkdir()
    heartbeat.start("relay")
    assert not heartbeat.path("relay").exists(), "the directory is another user's"


def test_code_that_beats_runs_without_a_heartbeat_too(run_dir: Path) -> None:
    heartbeat.beat(lacks="anything")
    assert not run_dir.exists()
    assert not heartbeat.is_ready()


def test_healthy_knows_no_django() -> None:
    """It runs every few seconds, beside each process."""
    loaded = "import usercast.healthy, sys; print([m for m in sys.modules if 'django' in m])"
    said = subprocess.run([sys.executable, "-c", loaded], capture_output=True, check=True)
    assert said.stdout.strip() == b"[]"

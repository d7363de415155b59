"""`manage.py users`: import and export in a terminal, stopped by ctrl-C and gone on with."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from transferring import counts, csv_file, received

from usercast.testing import eventually
from usercast_master.accounts.models import User
from usercast_master.outbox.models import OutboxEntry
from usercast_master.transfer import importing, leases
from usercast_master.transfer.models import Import, State

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _signals_as_they_were() -> Any:
    kept = {which: signal.getsignal(which) for which in (signal.SIGINT, signal.SIGTERM)}
    yield
    for which, handler in kept.items():
        signal.signal(which, handler)


def users(*words: object) -> int:
    """Run the command; returns its exit code."""
    try:
        call_command("users", *(str(word) for word in words))
    except SystemExit as end:
        return int(str(end.code))
    except CommandError as error:
        print(error)
        return error.returncode
    return 0


def staff(directory: Path, *lines: str) -> Path:
    path = directory / "staff.csv"
    path.write_bytes(csv_file(*lines).getvalue())
    return path


def test_rows_are_imported_and_refused_ones_reported(tmp_path: Path, capsys: Any) -> None:
    User.objects.create_superuser("root")
    path = staff(tmp_path, "username,email", "ann,a@x.org", "bob,broken", "root,r@x.org")
    assert users("import", path, "--by", "root") == 1
    report = (tmp_path / "staff.csv.errors.csv").read_text("utf-8-sig").splitlines()
    assert report == [
        "line,error,username,email",
        "3,email: Enter a valid email address.,bob,broken",
    ]
    said = capsys.readouterr().out
    assert "new 1, changed 1, unchanged 0, refused 1" in said
    assert "checking 3 of 3 rows" in said
    assert Import.objects.get().state == State.DONE


def test_exit_code_is_0_when_all_rows_are_taken(tmp_path: Path) -> None:
    path = staff(tmp_path, "username,email", "ann,a@x.org")
    assert users("import", path) == 0
    assert users("import", path) == 0, "the same file again is another import"
    assert [counts(found) for found in Import.objects.order_by("pk")] == [
        (1, 0, 0, 0),
        (0, 0, 1, 0),
    ]
    assert list(tmp_path.iterdir()) == [path], "no report without errors"


def test_dry_run_changes_nothing_and_is_gone_on_with(tmp_path: Path, capsys: Any) -> None:
    path = staff(tmp_path, "username,email", "ann,a@x.org", "bob,broken")
    assert users("import", path, "--dry-run") == 1
    assert "would be new 1" in capsys.readouterr().out
    assert not User.objects.exists()
    assert users("import", path) == 1
    assert (User.objects.count(), Import.objects.count()) == (1, 1)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["import", "{}/none.csv"], "No such file"),
        (["import", "{}/staff.csv", "--by", "ghost"], "No staff is called 'ghost'"),
        (["import", "{}/bad.csv"], "“shoe” is none"),
        (["export", "{}/users.pdf"], "must end in .csv or .xlsx"),
        (["export", "{}/none/users.csv"], "No such file"),
    ],
)
def test_what_cannot_be_done_ends_with_2(
    words: list[str], why: str, tmp_path: Path, capsys: Any
) -> None:
    staff(tmp_path, "username", "ann")
    (tmp_path / "bad.csv").write_text("username,shoe\nann,42\n")
    assert users(*(word.format(tmp_path) for word in words)) == 2
    assert why in capsys.readouterr().out


def test_cancelled_at_the_desk_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "BATCH_ROWS", 1)
    real = importing.batches.write

    def cancelling(*args: Any, **kwargs: Any) -> None:
        real(*args, **kwargs)
        Import.objects.update(state=State.CANCELLED)

    monkeypatch.setattr(importing.batches, "write", cancelling)
    assert users("import", staff(tmp_path, "username", "ann", "bob")) == 2
    assert User.objects.count() == 1


def test_a_worker_leaves_the_commands_import_alone(tmp_path: Path) -> None:
    path = staff(tmp_path, "username", "ann")
    assert users("import", path, "--dry-run") == 0
    Import.objects.update(state=State.IMPORTING)
    assert leases.claim() is None


def in_a_terminal(*words: str) -> tuple[subprocess.Popen[bytes], int]:
    """Start the command in a terminal of its own, with this test's database."""
    database = urlsplit(os.environ["DATABASE_URL"])._replace(
        path=f"/{connection.settings_dict['NAME']}"
    )
    environment = {
        **os.environ,
        "DATABASE_URL": database.geturl(),
        "DJANGO_SETTINGS_MODULE": "usercast_master.settings",
    }
    command = [sys.executable, "-m", "django", "users", *words]
    ours, its = pty.openpty()
    process = subprocess.Popen(command, env=environment, stdout=its, stderr=its)
    os.close(its)
    return process, ours


def ended(process: subprocess.Popen[bytes], terminal: int) -> str:
    """What the command has written, once it has ended."""
    said = b""
    with contextlib.suppress(OSError):  # As a terminal tells that nobody writes any more.
        while piece := os.read(terminal, 65536):
            said += piece
    os.close(terminal)
    process.wait(20)
    return said.decode()


def test_ctrl_c_stops_after_a_batch_and_the_same_command_goes_on(tmp_path: Path) -> None:
    rows = [f"u{number:05},u{number}@x.org" for number in range(6000)]
    path = staff(tmp_path, "username,email", *rows, "bad,broken")
    process, terminal = in_a_terminal("import", str(path))
    eventually(User.objects.exists, within=40, what="the first batch")
    process.send_signal(signal.SIGINT)
    said = ended(process, terminal)
    assert process.returncode == 130, said
    found = Import.objects.get()
    assert (found.state, found.new) == (State.IMPORTING, found.next_row)
    assert 0 < found.new < 6000
    assert f"Stopped after row {found.next_row:,}; the same command goes on." in said
    process, terminal = in_a_terminal("import", str(path))
    said = ended(process, terminal)
    assert process.returncode == 1, said
    assert "Going on with what was begun" in said
    assert "6001/6001" in said, "the bar"
    found.refresh_from_db()
    assert (found.state, counts(found)) == (State.DONE, (6000, 0, 0, 1))
    assert set(OutboxEntry.objects.values_list("version", flat=True)) == {1}
    assert "6002,email" in (tmp_path / "staff.csv.errors.csv").read_text()


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_export_can_be_imported_again(kind: str, tmp_path: Path) -> None:
    User.objects.create(username="ann", first_name="=Ann")
    User.objects.create(username="bob")
    path = tmp_path / f"users.{kind}"
    assert users("export", path, "--search", "=ann ANN") == 0
    assert users("import", path) == 0
    assert counts(Import.objects.get()) == (0, 0, 1, 0)


def test_waits_while_another_import_is_worked_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    other = received(csv_file("username", "other"))
    held = leases.claim(other.pk)
    assert held
    real = leases.claim

    def claim(import_id: int | None = None) -> Import | None:
        found = real(import_id)
        if found is None:
            leases.release(held)
        return found

    monkeypatch.setattr(leases, "claim", claim)
    assert users("import", staff(tmp_path, "username", "ann")) == 0
    assert "waiting: another import is being worked on" in capsys.readouterr().out

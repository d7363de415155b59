"""Import and export: ``manage.py users`` with 100,000 rows, as CSV and as XLSX.

It runs the code that the desk's pages run. The first import creates the users, but for some rows
that are bad; the second finds what the export wrote, and changes nothing.
"""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import system
from bench.report import Findings, Sheet
from bench.session import Session
from bench.system import BenchFailed
from embedded.deployment import Deployment

ROWS = 100_000
BAD = 100
_SOME_REFUSED = 1


@dataclass(frozen=True)
class Run:
    """One command, the start of Python included."""

    seconds: float
    peak_bytes: int


def run(session: Session) -> Findings:
    """Seconds and peak memory of each command."""
    with system.master_database(session) as deployment, TemporaryDirectory() as directory:
        files = Path(directory)
        _write(files / "staff.csv")
        steps = {
            "import, CSV, all new": ("import", files / "staff.csv", _SOME_REFUSED),
            "export, CSV": ("export", files / "users.csv", 0),
            "export, XLSX": ("export", files / "users.xlsx", 0),
            "import, CSV, nothing new": ("import", files / "users.csv", 0),
            "import, XLSX, nothing new": ("import", files / "users.xlsx", 0),
        }
        runs = {}
        for title, (task, file, expected) in steps.items():
            with session.step(title):
                runs[title] = _users(deployment, task, file, expected)
    sheet = Sheet(f"manage.py users, {ROWS:,} rows", ("", "s", "rows/s", "peak memory, MB"))
    sheet.rows += [
        (
            title,
            f"{done.seconds:.1f}",
            f"{ROWS / done.seconds:,.0f}",
            f"{done.peak_bytes / 1e6:.0f}",
        )
        for title, done in runs.items()
    ]
    sheet.notes.append(f"an import checks all rows, then writes; {BAD} of the first were refused")
    figures = {
        title: {"seconds": r.seconds, "peak_bytes": r.peak_bytes} for title, r in runs.items()
    }
    return Findings([sheet], {"rows": ROWS, **figures})


def _write(file: Path) -> None:
    every = ROWS // BAD
    with file.open("w") as rows:
        rows.write("username,first_name,last_name,email\n")
        for number in range(ROWS):
            host = "nowhere" if number % every == 0 else "example.org"
            rows.write(f"import-{number},First,Last {number % 4999},import-{number}@{host}\n")


def _users(deployment: Deployment, task: str, file: Path, expected: int) -> Run:
    """Run it to its end.

    Raises:
        BenchFailed: it ended with another exit code.
    """
    command = [sys.executable, "manage.py", "users", task, str(file)]
    start = time.perf_counter()
    with subprocess.Popen(
        command,
        cwd=deployment.master.directory,
        env=deployment.environment("master"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if process.returncode != expected:
        raise BenchFailed(f"users {task} ended with {process.returncode}: {output[-2000:]}")
    return Run(seconds, used.ru_maxrss * 1024)

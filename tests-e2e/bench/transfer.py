"""Import and export: ``manage.py users`` with 100,000 rows, as CSV and as XLSX.

It runs the code that the desk's pages run. The first import creates the users, but for some rows
that are bad; the second finds what the export wrote, and changes nothing.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from bench import system
from bench.command import measured
from bench.report import Findings, Sheet
from bench.session import Session
from embedded.service import MASTER

ROWS = 100_000
BAD = 100
_SOME_REFUSED = 1


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
                runs[title] = measured(
                    deployment, MASTER, "users", task, str(file), expected=expected
                )
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

"""What the tests of import and export share: files, and imports worked on as a worker would."""

import io
from collections.abc import Iterable
from typing import Any

from openpyxl import Workbook

from usercast_master.accounts.models import User
from usercast_master.transfer import files, importing, leases
from usercast_master.transfer.models import Import, State


def csv_file(*lines: str) -> io.BytesIO:
    return io.BytesIO("".join(f"{line}\n" for line in lines).encode())


def xlsx_file(rows: Iterable[Iterable[Any]]) -> io.BytesIO:
    book = Workbook()
    for row in rows:
        book.active.append(list(row))
    file = io.BytesIO()
    book.save(file)
    return file


def received(content: io.BytesIO, name: str = "staff.csv", by: User | None = None) -> Import:
    return files.receive(content, name, by=by)


def work(found: Import, *, batches: int | None = None) -> Import:
    """Work on an import as a worker does, and stop after so many batches."""
    done: list[None] = []

    def stopped() -> bool:
        done.append(None)
        return batches is not None and len(done) >= batches

    claimed = leases.claim(found.pk)
    assert claimed
    importing.run(claimed, stopped=stopped)
    found.refresh_from_db()
    return found


def imported(content: io.BytesIO, name: str = "staff.csv", by: User | None = None) -> Import:
    """Check a file and import it."""
    found = work(received(content, name, by))
    assert found.state == State.CHECKED, found.failure
    assert leases.confirm(found.pk)
    return work(found)


def errors_of(found: Import) -> list[tuple[int, str, str]]:
    return list(found.errors.values_list("line", "column", "message"))


def counts(found: Import) -> tuple[int, int, int, int]:
    """New, changed, unchanged, refused."""
    return found.new, found.changed, found.unchanged, found.refused

"""Reports of errors: the refused rows as CSV, with line and reason, ready to be corrected."""

import csv
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from usercast_master.transfer import cells
from usercast_master.transfer.models import Import, RowError


class _Echo:
    """A file that gives back what is written to it."""

    def write(self, text: str) -> str:
        return text


def as_csv(rows: Iterable[Iterable[Any]]) -> Iterator[str]:
    """Rows as lines of CSV, with the mark by which Excel knows UTF-8."""
    writer = csv.writer(_Echo())
    yield "\ufeff"
    for row in rows:
        yield writer.writerow(row)


def error_rows(found: Import) -> Iterator[list[str]]:
    """A header, then each refused row: its line, why, and its cells as they were."""
    kept = [place for place, name in enumerate(found.header) if name not in ("line", "error")]
    yield ["line", "error", *(found.header[place] for place in kept)]
    errors = found.errors.order_by("line", "id").iterator(chunk_size=1000)
    for line, of_line in groupby(errors, key=lambda error: error.line):
        several = list(of_line)
        row = several[0].cells
        why = "; ".join(_reason(error) for error in several)
        given = [row[place] if place < len(row) else "" for place in kept]
        yield [str(line), why, *(cells.guarded(cells.unguarded(cell)) for cell in given)]


def _reason(error: RowError) -> str:
    return f"{error.column}: {error.message}" if error.column else error.message

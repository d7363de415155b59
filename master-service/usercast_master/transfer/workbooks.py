"""Workbooks: XLSX read as a table, of which the first sheet counts; nothing in it is believed."""

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import BinaryIO

from openpyxl import Workbook as Book
from openpyxl import load_workbook

from usercast_master.transfer.cells import text_of
from usercast_master.transfer.errors import UnusableFile
from usercast_master.transfer.tables import FIELDS, IGNORED, MAX_ROWS, Row, Table, checked_header

#: What sheets may unpack to: half a million rows, read piece by piece.
MAX_SHEETS_BYTES = 400 * 1024 * 1024
#: And all else, which is kept in memory: the strings that cells share, styles.
MAX_KEPT_BYTES = 50 * 1024 * 1024
#: Of the format; a file may name rows beyond, and have the ones between made up.
_LAST_LINE = 1_048_576


class Workbook(Table):
    """The first sheet of an XLSX file."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.header = ()
        _bound(file)
        first = next(self.records(), None)
        if first is None:
            raise UnusableFile("The file's first sheet is empty.")
        self.header = checked_header(_trimmed(first.cells))

    def count(self) -> int | None:
        """What the sheet says of itself, which is only a guess, for the progress bar."""
        with _parsing(), closing(self._open()) as book:
            last: int | None = book.worksheets[0].max_row
        return last - 1 if last and 1 < last <= MAX_ROWS else None

    def records(self) -> Iterator[Row]:
        width = max(len(self.header), len(FIELDS) + len(IGNORED)) + 1
        with _parsing(), closing(self._open()) as book:
            sheet = book.worksheets[0]
            sheet.reset_dimensions()
            for line, values in enumerate(sheet.iter_rows(max_col=width, values_only=True), 1):
                if line > _LAST_LINE:
                    raise UnusableFile("The workbook has rows beyond the last one.")
                cells = _trimmed([text_of(value) for value in values])
                if cells:
                    yield Row(line, cells + ("",) * (len(self.header) - len(cells)))

    def _open(self) -> Book:
        return load_workbook(self.file, read_only=True, data_only=True)


@contextmanager
def _parsing() -> Iterator[None]:
    try:
        yield
    except UnusableFile:
        raise
    except Exception as error:  # openpyxl raises whatever it stumbles over.
        raise UnusableFile("The file is no XLSX workbook, or a damaged one.") from error


def _bound(file: BinaryIO) -> None:
    """Refuse what unpacks to more than we read: zip files can be made to."""
    with _parsing(), zipfile.ZipFile(file) as packed:
        sizes = {part.filename: part.file_size for part in packed.infolist()}
    sheets = sum(size for name, size in sizes.items() if name.startswith("xl/worksheets/"))
    if sheets > MAX_SHEETS_BYTES or sum(sizes.values()) - sheets > MAX_KEPT_BYTES:
        raise UnusableFile("The workbook is too large when unpacked; save it as CSV.")


def _trimmed(cells: Sequence[str]) -> tuple[str, ...]:
    """Without the empty cells at the end."""
    end = max((place for place, cell in enumerate(cells, 1) if cell), default=0)
    return tuple(cells[:end])

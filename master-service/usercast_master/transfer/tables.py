"""Tables: takes an uploaded file, gives its header and its rows with their true line numbers.

CSV in UTF-8, separated by comma, semicolon or tab, is read here, XLSX by ``workbooks``; both from
disk as they are needed, so memory does not grow with the file.
"""

import csv
import io
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from usercast_master.transfer.errors import UnusableFile

MAX_BYTES = 50 * 1024 * 1024
MAX_ROWS = 1_000_000

FIELDS = (
    "id",
    "username",
    "email",
    "first_name",
    "last_name",
    "is_active",
    "groups",
    "date_joined",
    "version",
)
#: Columns of an error report, which may be corrected and imported.
IGNORED = ("line", "error")

_NOT_UTF8 = "The file is not UTF-8 text. In a spreadsheet, save it as “CSV UTF-8”, or as XLSX."


@dataclass(frozen=True)
class Row:
    """One record: the line (or the sheet's row) it begins in, and its cells as written."""

    line: int
    cells: tuple[str, ...]


class Table(ABC):
    """An opened file that can be imported.

    Raises:
        UnusableFile: when it is opened, or by ``rows`` further down.
    """

    header: tuple[str, ...]

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    @abstractmethod
    def records(self) -> Iterator[Row]:
        """Every record, the header's included, empty ones left out."""

    @abstractmethod
    def count(self) -> int | None:
        """How many rows there are; None if only reading all of them would tell."""

    def rows(self) -> Iterator[Row]:
        """The rows after the header, at most ``MAX_ROWS``."""
        records = self.records()
        next(records)
        for number, row in enumerate(records, 1):
            if number > MAX_ROWS:
                raise UnusableFile(f"The file has more than {MAX_ROWS:,} rows; split it.")
            yield row


class Text(Table):
    """A CSV file in UTF-8, with or without a byte order mark."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.delimiter = self._likely_delimiter()
        first = next(self.records(), None)
        if first is None:
            raise UnusableFile("The file is empty.")
        self.header = checked_header(first.cells)

    def count(self) -> int:
        return sum(1 for _ in self.rows())

    def records(self) -> Iterator[Row]:
        with self._lines() as lines:
            reader = csv.reader(lines, delimiter=self.delimiter, strict=True)
            line = 1
            try:
                for cells in reader:
                    if any(cells):
                        yield Row(line, tuple(cells))
                    line = reader.line_num + 1
            except csv.Error as error:
                raise UnusableFile(f"The record in line {line} is no CSV: {error}.") from None

    def _likely_delimiter(self) -> str:
        """The one by which the first line names most of our columns."""
        with self._lines() as lines:
            first = next((line for line in lines if line.strip()), "")
        ours = {
            mark: {*_named(next(csv.reader([first], delimiter=mark), []))} & {*FIELDS}
            for mark in ",;\t"
        }
        return max(ours, key=lambda mark: len(ours[mark]))

    @contextmanager
    def _lines(self) -> Iterator[io.TextIOWrapper]:
        self.file.seek(0)
        lines = io.TextIOWrapper(self.file, "utf-8-sig", newline="")
        try:
            yield lines
        except UnicodeDecodeError:
            raise UnusableFile(_NOT_UTF8) from None
        finally:
            lines.detach()


def checked_header(cells: Sequence[str]) -> tuple[str, ...]:
    """The columns' names.

    Raises:
        UnusableFile: one is not ours or is there twice, or none tells whom a row is about.
    """
    names = _named(cells)
    if any("\0" in name for name in names):
        raise UnusableFile(_NOT_UTF8)
    if unknown := [name for name in names if name not in (*FIELDS, *IGNORED)]:
        shown = ", ".join(f"“{name[:40]}”" for name in unknown[:5])
        raise UnusableFile(
            f"The first line must name the columns; {shown} is none."
            f" Possible are {', '.join(FIELDS)}."
        )
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise UnusableFile(f"The column {twice[0]} is there twice.")
    if "id" not in names and "username" not in names:
        raise UnusableFile("There must be a column username or id, to tell whom a row is about.")
    return tuple(names)


def _named(cells: Sequence[str]) -> list[str]:
    return [cell.strip().lower().replace(" ", "_") for cell in cells]
